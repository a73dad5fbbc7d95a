"""The process that owns a run: `python -m engine.host RUN_DIR` serves a folder's preset, or goes on with its run (`--resume`).

What is heavy is imported when signals are minded already: PyTorch takes seconds to load, and a run that is stopped meanwhile has
been stopped, not crashed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import engine.openmp  # noqa: F401  before torch
from engine.control import STOP_SIGNALS
from engine.errors import UserError
from engine.result import Result
from engine.run_dir import Lock, RunDir, take_over


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
        lock = take_over(run_dir) if chosen.resume and chosen.lock is None else Lock(run_dir, chosen.lock)
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    stopped_by: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        """Before there is a run that can take a signal. An exception would do harm: libraries that are being loaded swallow it,
        and go on with halves of what they were loading. A second signal waits for nothing.
        """
        stopped_by.append(number)
        try:
            if len(stopped_by) == 1 and not run_dir.result.exists():  # or so late that all is done
                _conclude(run_dir, lock, Result(str(run_dir.path), state="stopped", message="stopped before it began"))
        finally:
            os._exit(128 + number)

    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        if chosen.until_eof:
            threading.Thread(target=_stop_at_eof, name="mmkd-tie", daemon=True).start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # whoever starts this process may have held them back until now
        return _serve(chosen, run_dir, lock)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_at_eof() -> None:
    """Whoever started this process holds the other end: when that is gone, so is the machine's share that we work on."""
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)


def _serve(chosen: argparse.Namespace, run_dir: RunDir, lock: Lock) -> int:
    from engine.plugins import load_plugins
    from engine.preset_yaml import load_preset
    from engine.run import Run
    from engine.serving import EndedAtOnce, Served, exit_code, serve

    try:
        load_plugins(chosen.plugin)
        preset, options = load_preset(run_dir.preset), {"resume": chosen.resume, "share_gpu": chosen.force}
        run = Run(preset, run_dir.path, data_root=chosen.data_root, lock=lock, **options)
        served = serve(run)
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
    return exit_code(served)


def _conclude(run_dir: RunDir, lock: Lock, result: Result) -> None:
    """How it ended, where no run was there to say so."""
    with suppress(OSError):
        run_dir.write_json(run_dir.result, asdict(result))
    lock.release()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
