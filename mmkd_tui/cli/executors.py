"""Where many runs are done: the options for that, and the executor that they mean."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import UserError

if TYPE_CHECKING:
    from engine.sweeps.executor import Executor, Job


class Place(StrEnum):
    """What does the runs."""

    local = "local"
    ray = "ray"
    slurm = "slurm"


On = Annotated[
    Place | None,
    typer.Option("--on", help="Where the runs are done: on this machine, by ray or by slurm (local).", show_default=False),
]
Slots = Annotated[
    int | None,
    typer.Option(
        help="Runs at once on each GPU, or else on this machine (1); of slurm, jobs in the queue at once (64).",
        min=1,
        max=10_000,
        show_default=False,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="A Ray cluster that is running: auto or HOST:PORT (nothing: one on this machine).",
        show_default=False,
    ),
]
Partition = Annotated[
    str | None,
    typer.Option("--slurm-partition", help="The partition of the jobs (the cluster's own choice).", show_default=False),
]
Minutes = Annotated[
    int | None,
    typer.Option("--slurm-time", metavar="MINUTES", help="Of a job (240); longer runs take several.", min=5, show_default=False),
]
Gpus = Annotated[
    int | None, typer.Option("--slurm-gpus", help="GPUs of a job (1, or 0 with device cpu).", min=0, max=16, show_default=False)
]


@dataclass(frozen=True, slots=True)
class Where:
    """What the options say."""

    on: Place | None = None
    slots: int | None = None
    ray: str | None = None
    partition: str | None = None
    minutes: int | None = None
    gpus: int | None = None

    @property
    def given(self) -> bool:
        """Whether anything was said."""
        return self != Where()

    @property
    def words(self) -> list[str]:
        """The options again, as they are typed."""
        given = {
            "--on": self.on,
            "--slots": self.slots,
            "--ray": self.ray,
            "--slurm-partition": self.partition,
            "--slurm-time": self.minutes,
            "--slurm-gpus": self.gpus,
        }
        return [word for option, value in given.items() if value is not None for word in (option, str(value))]


@contextmanager
def executor(where: Where, jobs: Sequence[Job], logs: Path, data_root: Path | None, force: bool) -> Iterator[Executor]:
    """The one that is asked for, closed at the end. `logs`: of Slurm's jobs. UserError where that cannot be."""
    place = where.on or (Place.ray if where.ray is not None else Place.local)
    if where.ray is not None and place is not Place.ray:
        raise UserError(f"--ray goes with --on ray, not with --on {place}; leave one of them out")
    if (where.partition, where.minutes, where.gpus) != (None, None, None) and place is not Place.slurm:
        raise UserError(f"the --slurm options go with --on slurm, not with --on {place}; leave them out")
    made: Executor
    if place is Place.ray:
        from engine.sweeps.on_ray import RayExecutor

        made = RayExecutor(where.ray, where.slots or 1, data_root=data_root, force=force)
    elif place is Place.slurm:
        from engine.sweeps.on_slurm import MINUTES, MOST_JOBS, SlurmExecutor

        made = SlurmExecutor(
            logs,
            partition=where.partition,
            minutes=where.minutes or MINUTES,
            gpus=where.gpus,
            slots=where.slots or MOST_JOBS,
            data_root=data_root,
            force=force,
        )
    else:
        from engine.sweeps.local import LocalExecutor

        devices = local_devices({job.preset.hardware.device for job in jobs})
        if not force:
            _refuse_if_all_are_busy(devices, jobs)
        made = LocalExecutor(devices, where.slots or 1, data_root=data_root, force=force)
    # Ray tells of lost nodes on stdout, which is for data.
    with redirect_stdout(sys.stderr) if place is Place.ray else nullcontext():
        try:
            yield made
        finally:
            made.close()


def _refuse_if_all_are_busy(devices: Sequence[str | None], jobs: Sequence[Job]) -> None:
    """GpuBusyError where others have all the GPUs that are wanted; where it is one of these runs, that one is waited for."""
    from engine.gpu_lock import GpuBusyError, refuse_if_busy
    from engine.run_state import RunState
    from engine.sweeps.executor import state_of

    states = [state_of(job.folder) for job in jobs]
    left = [job for job, state in zip(jobs, states, strict=True) if state is not RunState.FINISHED]
    wanted = {job.preset.hardware.device for job in left}
    busy = []
    for device in devices:
        environment = os.environ if device is None else {"CUDA_VISIBLE_DEVICES": device}
        try:
            for asked in wanted:
                refuse_if_busy(asked, environment)
        except GpuBusyError as error:
            busy.append(error)
    if len(busy) == len(devices) and not any(state is not None and state.live for state in states):
        raise busy[0]


def local_devices(asked: set[str]) -> list[str | None]:
    """The GPUs to share runs out to, by their names in CUDA_VISIBLE_DEVICES; one None where it is not for us to choose."""
    from mmkd_tui.machine import this_machine

    if not asked <= {"auto", "cuda"}:  # on the processor, or on a GPU that the preset has chosen
        return [None]
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(gpu.index) for gpu in this_machine().gpus] if given is None else given.split(",")
    return [name.strip() for name in names if name.strip()] or [None]
