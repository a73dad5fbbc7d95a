"""The process that owns a run: `python -m engine.host RUN_DIR` serves a folder's preset, or goes on with its run (`--resume`).

`torchrun --nproc-per-node N -m engine.host RUN_DIR` serves it with N processes. The first one has the folder; when the launcher
starts them again because one was lost, they go on from the last checkpoint.

What is heavy is imported when signals are minded already: PyTorch takes seconds to load, and a run that is stopped meanwhile has
been stopped, not crashed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import engine.openmp  # noqa: F401  before torch
from engine.control import STOP_SIGNALS, StopSignals, on_stop_signals
from engine.errors import TrainingError, UserError
from engine.launched import Launched, launched
from engine.result import Result
from engine.run_dir import Lock, RunDir, take_over
from engine.untrusted import read_object

if TYPE_CHECKING:
    from engine.ranks import Ranks


def main(arguments: Sequence[str]) -> int:
    """Exit codes as those of `mmkd run`. What goes wrong is in the folder's `result.json`."""
    parser = argparse.ArgumentParser("python -m engine.host", description="Train what preset.yaml in RUN_DIR says.")
    parser.add_argument("folder", metavar="RUN_DIR", type=Path)
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped or crashed")
    parser.add_argument("--data-root", type=Path, help="where data sets lie")
    parser.add_argument("--plugin", type=Path, action="append", default=[], help="a Python file with architectures")
    parser.add_argument("--force", action="store_true", help="share the GPU with another run")
    parser.add_argument("--until-eof", action="store_true", help="stop and save when standard input ends")
    parser.add_argument("--lock", type=int, metavar="FD", help="an inherited descriptor that holds the folder's lock")
    chosen = parser.parse_args(arguments)
    run_dir = RunDir(chosen.folder)
    try:
        place = launched()
        if place is not None and place.restarts and (code := _code_of_ending(run_dir)) is not None:
            return code
        if place is not None and place.rank:
            return _follow(chosen, run_dir, place)
        if place is not None and place.restarts and run_dir.events.exists():
            chosen.resume = True
        lock = take_over(run_dir) if chosen.resume and chosen.lock is None else Lock(run_dir, chosen.lock)
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    stops = StopSignals()

    def stop(number: int, frame: FrameType | None) -> None:
        """Before there is a run that can take a signal. An exception would do harm: libraries that are being loaded swallow it,
        and go on with halves of what they were loading. A second request waits for nothing.
        """
        begun = stops.first is not None
        if not stops.take(number) and begun:
            return  # what interrupts the first one's handler here is the same request: let that come to its end
        try:
            if not begun and not run_dir.result.exists():  # or so late that all is done
                _conclude(run_dir, lock, Result(str(run_dir.path), state="stopped", message="stopped before it began"))
        finally:
            os._exit(128 + number)

    with on_stop_signals(stop):
        if chosen.until_eof:
            threading.Thread(target=_stop_at_eof, name="mmkd-tie", daemon=True).start()
        if place is not None:
            threading.Thread(target=_stop_without_launcher, args=[os.getppid()], name="mmkd-tie", daemon=True).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # whoever starts this process may have held them back until now
        return _serve(chosen, run_dir, lock, place)


def _code_of_ending(run_dir: RunDir) -> int | None:
    """The exit code of a run that is done or has failed: only lost processes are worth another try. None for any other."""
    said = read_object(run_dir.result) or {}
    if said.get("state") == "failed":
        return 2 if said.get("mistake") is True else 1
    return 0 if said.get("state") == "done" else None


def _stop_at_eof() -> None:
    """Whoever started this process holds the other end: when that is gone, so is the machine's share that we work on."""
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


def _stop_without_launcher(launcher: int) -> None:
    """Nobody would start lost processes again, nor hand on a signal."""
    while os.getppid() == launcher:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


def _serve(chosen: argparse.Namespace, run_dir: RunDir, lock: Lock, place: Launched | None) -> int:
    from engine.plugins import load_plugins
    from engine.preset_yaml import dump_preset, load_preset
    from engine.ranks import ALONE, LostRankError, join
    from engine.run import Run
    from engine.serving import EndedAtOnce, Served, exit_code, serve

    ranks = ALONE
    try:
        if place is not None:
            ranks = join(place)
        with ranks.all_or_none():
            load_plugins(chosen.plugin)
            preset = load_preset(run_dir.preset)
            if not run_dir.events.exists():  # a person may have written it; a run that has begun has written its own
                preset = preset.anchored(run_dir.path)
        ranks.told([chosen.resume])
        ranks.sent(dump_preset(preset).encode())
        options = {"resume": chosen.resume, "share_gpu": chosen.force}
        run = Run(preset, run_dir.path, data_root=chosen.data_root, lock=lock, ranks=ranks, **options)
        served = serve(run)
    except LostRankError as error:  # before the run began
        lock.release()
        print(error, file=sys.stderr, flush=True)  # noqa: T201
        os._exit(1)
    except EndedAtOnce as end:
        os._exit(end.exit_code)  # its thread is at work, and would be waited for
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        served = Served(Result(str(run_dir.path), message=message, mistake=isinstance(error, UserError)), None)
        if chosen.resume or not run_dir.events.exists():
            _conclude(run_dir, lock, served.result)
        lock.release()
    if served.result.state == "failed":
        with suppress(OSError):  # console.log may lie on a full disk
            print(served.result.message, file=sys.stderr, flush=True)  # noqa: T201
    if place is not None:
        return _leave(ranks, served.result)
    return exit_code(served)


def _follow(chosen: argparse.Namespace, run_dir: RunDir, place: Launched) -> int:
    """A rank that is not the first: it does what that one says, signals or not, and knows the folder by name alone."""
    for number in (*STOP_SIGNALS, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    from engine.plugins import load_plugins
    from engine.preset_yaml import parse_preset
    from engine.ranks import ALONE, LostRankError, join
    from engine.run import Run

    ranks = ALONE
    try:
        ranks = join(place)
        with ranks.all_or_none():
            load_plugins(chosen.plugin)
        resume = bool(ranks.told([False])[0])
        preset = parse_preset((ranks.sent(None) or b"").decode(), str(run_dir.preset))
        run = Run(preset, run_dir.path, data_root=chosen.data_root, resume=resume, share_gpu=chosen.force, ranks=ranks)
        result = run.execute()
    except (LostRankError, TrainingError, UserError) as error:
        result = Result(str(run_dir.path), message=str(error), mistake=isinstance(error, UserError))
    if result.state == "failed" and not ranks.given_up:  # else the first process tells why
        with suppress(OSError):
            print(f"process {place.rank + 1}: {result.message}", file=sys.stderr, flush=True)  # noqa: T201
    return _leave(ranks, result)


def _leave(ranks: Ranks, result: Result) -> NoReturn:
    """The launcher takes every other exit code for a lost process, which a run that was stopped on request is not."""
    if result.state == "failed":
        sys.stderr.flush()
        if ranks.given_up and not ranks.first:
            from engine.ranks import LostRankError

            with suppress(LostRankError):
                ranks.told([0])  # until the first process has written why, and gone: the launcher ends who is left
        os._exit(2 if result.mistake else 1)  # without waiting for processes that may not be there any more
    ranks.close()
    from engine.ranks import leave

    leave(0)


def _conclude(run_dir: RunDir, lock: Lock, result: Result) -> None:
    """How it ended, where no run was there to say so."""
    with suppress(OSError):
        run_dir.write_json(run_dir.result, asdict(result))
    lock.release()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
