"""What does runs: the one small interface behind which this machine, a Ray cluster and Slurm stand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from engine.gpu_lock import busy_in
from engine.paths import private_folder, write_whole
from engine.preset import Preset
from engine.preset_yaml import dump_preset
from engine.run_client import DirectoryClient
from engine.run_dir import RunDir
from engine.run_list import is_run
from engine.run_state import RunState, StateReader

SILENT = "another process has it and does not respond; mmkd runs show tells of it"


@dataclass(frozen=True, slots=True)
class Job:
    """A run that is to be done: what, and in which folder. Where the folder has its beginnings, it is gone on with."""

    folder: Path
    preset: Preset


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a job's process, or of what stood for it."""

    code: int | None = None  # below 0: by that signal; None: not known
    message: str = ""  # what the executor has to say, where it failed


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run came to its end."""

    state: RunState
    message: str = ""

    @property
    def refused_by_gpu(self) -> bool:
        """Whether it did not begin because another run has its GPU: no failure, its turn comes again."""
        return self.state is RunState.FAILED and bool(busy_in(self.message))


class Executor(Protocol):
    """Does jobs, each in a process of its own. Handles are the executor's own. Used from one thread."""

    @property
    def capacity(self) -> int:
        """How many jobs may be submitted and not ended at once; a cluster's changes with its nodes."""
        ...

    def submit(self, job: Job) -> Any:
        """Has it done, now or when there is room; a handle. UserError or OSError where that is not possible; InUseError where
        another process has it; GpuBusyError where it is as soon as another run has ended, whose the GPUs are.
        """
        ...

    def poll(self, handle: Any) -> Exit | None:
        """Whether it has ended; does not wait."""
        ...

    def cancel(self, handle: Any) -> None:
        """Asks a job that is at work to stop after its step and to save; one that waits never begins. Does not wait. UserError or
        OSError where it could not be asked.
        """
        ...

    def close(self) -> None:
        """Lets go of the executor. What is at work detached goes on."""
        ...


def state_of(folder: Path) -> RunState | None:
    """None where a run was never begun."""
    return StateReader(RunDir(folder)).read() if is_run(folder) else None


def write_down(job: Job) -> None:
    """The folder and its preset. Anew, too, where it is resumed: it may go on on another device."""
    private_folder(job.folder)
    write_whole(RunDir(job.folder).preset, dump_preset(job.preset))


def ending(folder: Path, exit: Exit | None) -> Ended:
    """How a run ended, by its folder; the exit says what happened where the folder cannot."""
    client = DirectoryClient(folder)
    state = state_of(folder)
    if state is None or state is RunState.CRASHED or state.live:
        said = exit.message if exit is not None else ""
        code = exit.code if exit is not None else None
        how = "" if code is None else f" by signal {-code}" if code < 0 else f" with exit code {code}"
        last = next((f": {line}" for line in reversed(client.console_tail(20)) if line.strip()), "")
        return Ended(RunState.CRASHED, said or f"its process ended{how}{last}")
    return Ended(state, str((client.result() or {}).get("message", "")))
