"""Does the runs of a table, one after the other, each in a process of its own: the end of one is not the end of the table."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from engine.errors import InUseError, UserError
from engine.events import Event
from engine.gpu_lock import GpuBusyError, busy_in, refuse_if_busy
from engine.paths import private_folder
from engine.run_client import DirectoryClient
from engine.run_state import RunState
from engine.sweeps.executor import SILENT, Ended, Job, ending, state_of
from engine.sweeps.local import LocalExecutor, LocalHandle
from engine.sweeps.manifest import unwritable
from engine.tables.plan import Plan, PlannedRun

TICK = 0.25  # seconds between two looks

View = Callable[[Sequence[Event]], None]


def refuse_unwritable(plans: Sequence[Plan]) -> None:
    """UserError where the folder of a run that has none yet cannot be made: each run would fail by that alone."""
    for plan in plans:
        if all(state_of(run.folder) is not None for run in plan.runs):
            continue
        try:
            private_folder(plan.folder)
            with tempfile.TemporaryFile(dir=plan.folder):
                pass
        except OSError as error:
            raise unwritable(plan.folder, error) from error


def wait_for_gpu(run: PlannedRun, tell: Callable[[str], None], asked_to_stop: Callable[[], bool]) -> None:
    """Until no other run has this one's GPU. Where one has, `tell` is told once which GPU is in use, and by whom."""
    told = False
    while not asked_to_stop():
        try:
            refuse_if_busy(run.preset.hardware.device)
        except GpuBusyError as error:
            state = state_of(run.folder)
            if state is not None and state.responding:
                return  # it is this one
            if not told:
                tell(busy_in(str(error)))
            told = True
            time.sleep(TICK)
        else:
            return


def work_off(
    run: PlannedRun, view: View, asked_to_stop: Callable[[], bool], *, data_root: Path | None = None, force: bool = False
) -> Ended:
    """Does one run, or goes on with it, and waits for its end; one that is at work already is only waited for.

    `view` is given what happens. When `asked_to_stop` turns true, the run is asked to stop after its step and to save.
    `force`: another run may be at work on the same GPU. What goes wrong is in what is returned; nothing is raised.
    """
    state = state_of(run.folder)
    if state is RunState.FINISHED:
        return Ended(state)
    live = state is not None and state.responding  # what gives no sign of life is taken over, where that can be
    client = DirectoryClient(run.folder, only_new=not live)  # whoever comes late wants to know what it is about
    executor, handle = LocalExecutor(data_root=data_root, force=force), None
    if not live:
        if asked_to_stop():
            return Ended(RunState.STOPPED)
        try:
            handle = executor.submit(Job(run.folder, run.preset))
        except InUseError:
            pass  # another command was quicker: it is at work, too
        except (UserError, OSError) as error:
            return Ended(RunState.FAILED, str(error))
    return _wait(client, executor, handle, view, asked_to_stop)


def _wait(
    client: DirectoryClient, executor: LocalExecutor, handle: LocalHandle | None, view: View, asked_to_stop: Callable[[], bool]
) -> Ended:
    asked = False
    while True:
        exit = None if handle is None else executor.poll(handle)
        state, stopping = client.state(), asked_to_stop()
        silent = state is RunState.NOT_RESPONDING and (handle is None or stopping)  # nobody knows whether it ever ends
        over = exit is not None or silent or (handle is None and not state.live)
        view(client.poll())
        if over and client.caught_up():
            return Ended(state, SILENT) if silent and exit is None else ending(client.path, exit)
        if stopping and not asked:
            asked = _ask_to_stop(client, executor, handle)
        if not over:
            time.sleep(TICK)


def _ask_to_stop(client: DirectoryClient, executor: LocalExecutor, handle: LocalHandle | None) -> bool:
    """Whether that could be said; if not, because of a full disk, say, it is tried again."""
    if handle is not None:
        executor.cancel(handle)
        return True
    try:
        client.request("stop")
    except UserError:
        return False
    return True
