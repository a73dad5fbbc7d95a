"""Does the runs of a table, one after the other, each in a process of its own: the end of one is not the end of the table."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import UserError
from engine.events import Event
from engine.paths import private_folder, write_whole
from engine.preset_yaml import dump_preset
from engine.run_client import DirectoryClient
from engine.run_dir import Lock, RunDir, take_over
from engine.run_state import RunState
from engine.spawning import start_host
from engine.tables.gather import state_of
from engine.tables.plan import PlannedRun

TICK = 0.25  # seconds between two looks

View = Callable[[Sequence[Event]], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run came to its end."""

    state: RunState
    message: str = ""


def work_off(
    run: PlannedRun, view: View, asked_to_stop: Callable[[], bool], *, data_root: Path | None = None, force: bool = False
) -> Ended:
    """Does one run, or goes on with it, and waits for its end; one that is at work already is only waited for.

    `view` is given what happens. When `asked_to_stop` turns true, the run is asked to stop after its step and to save.
    `force`: another run may be at work on the same GPU. What goes wrong is in what is returned; nothing is raised.
    """
    state = state_of(run)
    if state is RunState.FINISHED:
        return Ended(state)
    live = state is not None and state.live
    client = DirectoryClient(run.folder, only_new=not live)  # whoever comes late wants to know what it is about
    process = None
    if not live:
        try:
            process = _begin(run, state, data_root, force)
        except (UserError, OSError) as error:
            return Ended(RunState.FAILED, str(error))
    _wait(client, process, view, asked_to_stop)
    return _ending(run, client, process)


def _begin(run: PlannedRun, state: RunState | None, data_root: Path | None, force: bool) -> subprocess.Popen[bytes]:
    private_folder(run.folder)
    run_dir = RunDir(run.folder.absolute())
    lock = Lock(run_dir) if state is None else take_over(run_dir)
    try:
        # Anew, too, where it is resumed: it may go on on another device.
        write_whole(run_dir.preset, dump_preset(run.preset))
        return start_host(run_dir, lock, data_root, [*["--resume"] * (state is not None), *["--force"] * force])
    finally:
        lock.release()


def _wait(
    client: DirectoryClient, process: subprocess.Popen[bytes] | None, view: View, asked_to_stop: Callable[[], bool]
) -> None:
    told = False
    while True:
        over = process.poll() is not None if process is not None else not client.state().live
        view(client.poll())
        if over and client.caught_up():
            return
        if asked_to_stop() and not told:
            told = True
            _stop(client, process)
        if not over:
            time.sleep(TICK)


def _stop(client: DirectoryClient, process: subprocess.Popen[bytes] | None) -> None:
    """By a signal where it is our child: that reaches it before it has a run to speak of, too."""
    if process is not None:
        process.send_signal(signal.SIGINT)
    else:
        client.request("stop")


def _ending(run: PlannedRun, client: DirectoryClient, process: subprocess.Popen[bytes] | None) -> Ended:
    state = state_of(run) or RunState.CRASHED
    if state is RunState.CRASHED:
        code = process.returncode if process is not None else None
        how = "" if code is None else f" by signal {-code}" if code < 0 else f" with exit code {code}"
        last = next((f": {line}" for line in reversed(client.console_tail(20)) if line.strip()), "")
        return Ended(state, f"its process ended{how}{last}")
    result = client.result() or {}
    return Ended(state, str(result.get("message", "")))
