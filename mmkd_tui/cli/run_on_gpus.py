"""`mmkd run --gpus N`: several processes train together under PyTorch's launcher; this one shows what they do."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from engine.control import StopSignals, on_stop_signals
from mmkd_tui.cli.options import data_root_of

if TYPE_CHECKING:
    import subprocess

    from engine.preset import Preset
    from engine.run_dir import RunDir
    from mmkd_tui.progress import Progress

TICK = 0.25  # seconds between two looks at the run's folder


def launch(
    preset: Preset, progress: Progress, data_root: Path | None, runs_dir: Path, force: bool, processes: int, restarts: int
) -> tuple[Mapping[str, Any], int]:
    """Makes the run's folder, has it trained, and shows it; its result and the exit code.

    The first signal asks the run to stop and is waited for, a second request (see StopSignals) ends everything at once.
    UserError where the folder cannot be made.
    """
    from engine.paths import write_whole
    from engine.preset_yaml import dump_preset
    from engine.run_dir import RunDir
    from engine.spawning import start_host

    run_dir = RunDir.create(runs_dir.expanduser().absolute(), preset.name)
    try:
        write_whole(run_dir.preset, dump_preset(preset))
        # So many go on with it, too, if it is stopped before it began.
        run_dir.write_json(run_dir.meta, {"processes": processes, "begun_by": sys.argv})
        host = start_host(run_dir, None, data_root_of(data_root), ["--force"] * force, processes=processes, restarts=restarts)
    except OSError as error:
        raise run_dir.not_begun(error) from error
    signals: list[int] = []  # those that are handed on
    stops = StopSignals()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if stops.take(number) or not signals:
            signals.append(number)

    with on_stop_signals(on_signal):
        _show(run_dir, host, progress, signals)
    return _ending(run_dir, signals)


def _show(run_dir: RunDir, host: subprocess.Popen[bytes], progress: Progress, signals: list[int]) -> None:
    from engine.run_client import DirectoryClient
    from mmkd_tui.console_thread import ConsoleThread

    client, told = DirectoryClient(run_dir.path), 0
    with ConsoleThread(progress) as show:
        while True:
            ended = host.poll() is not None
            while events := client.poll():
                show(events)
            show(())
            if ended:
                return
            if len(signals) > told:
                told += 1
                # The launcher hands it on to all processes; a second time it is not asked any more, and they end without it.
                host.send_signal(signal.SIGTERM if told == 1 else signal.SIGKILL)
            time.sleep(TICK)


def _ending(run_dir: RunDir, signals: list[int]) -> tuple[Mapping[str, Any], int]:
    """As the folder tells it; without a result there, a process was lost and not started again."""
    from dataclasses import asdict

    from engine.result import Result, result_from
    from engine.untrusted import read_object

    result = result_from(read_object(run_dir.result) or {})
    if result is None:
        why = f"a process was lost; {run_dir.console} says more, and mmkd resume {run_dir.path} goes on from the last checkpoint"
        result = asdict(Result(str(run_dir.path), message=why))
    codes = {"done": 0, "stopped": 128 + (signals[0] if signals else signal.SIGINT)}
    return result, codes.get(str(result["state"]), 2 if result["mistake"] else 1)
