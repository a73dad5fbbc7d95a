"""Runs as jobs of a Slurm cluster, through submitit; a job that is preempted or comes to its time limit is queued again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.run_client import DirectoryClient
from engine.run_state import RunState
from engine.spawning import source_path
from engine.sweeps.executor import Exit, Job, state_of, write_down
from engine.sweeps.remote import Attempt, Order, extra, passed_on
from engine.text import one_line

MINUTES = 240  # a job's time limit
MOST_JOBS = 64  # in the queue at once
REQUEUES = 100  # of a job that came to its time limit


class SlurmTask(Attempt):
    """An attempt that submitit can put back into the queue."""

    def checkpoint(self) -> Any:
        """Called by submitit's signal handler when the job is to leave its node: the run saves, and the job waits anew."""
        self.stop()
        return extra("submitit", "slurm").helpers.DelayedSubmission(SlurmTask(self.order))


class SlurmExecutor:
    """Submits from a login node. Folders, teachers and data lie where all nodes find them under the same names."""

    def __init__(
        self,
        logs: Path,
        *,
        partition: str | None = None,
        minutes: int = MINUTES,
        gpus: int | None = None,
        slots: int = MOST_JOBS,
        data_root: Path | None = None,
        force: bool = False,
        cluster: str = "slurm",
    ) -> None:
        """`logs`: submitit's folder. `minutes`: a job's time limit; a run that needs more goes on in another job. `gpus`: of each
        job; None: 1 where its preset wants one. `slots`: jobs in the queue at once. UserError where there is no Slurm.
        """
        submitit = extra("submitit", "slurm")
        if cluster == "slurm" and shutil.which("sbatch") is None:
            raise UserError("there is no Slurm here: sbatch is not found; log in to a node of the cluster, or leave --on out")
        self.capacity = slots
        self.gpus, self.data_root, self._force = gpus, data_root, force
        limits = {f"{cluster}_max_num_timeout": REQUEUES}
        self._executor = submitit.AutoExecutor(folder=logs, cluster=cluster, **limits)
        self._executor.update_parameters(timeout_min=minutes, tasks_per_node=1, nodes=1)
        if partition is not None:
            self._executor.update_parameters(slurm_partition=partition)

    def submit(self, job: Job) -> Any:
        """A job of its own."""
        write_down(job)
        hardware = job.preset.hardware
        gpus = self.gpus if self.gpus is not None else int(hardware.device != "cpu")
        name, cpus = f"mmkd-{job.folder.name}"[:60], hardware.threads or 4
        self._executor.update_parameters(name=name, gpus_per_node=gpus, cpus_per_task=cpus)
        task = SlurmTask(Order.of(job, self.data_root, self._force, source_path() | passed_on()))
        try:
            return (self._executor.submit(task), job.folder)
        except Exception as error:  # of sbatch, in whatever words
            raise UserError(f"Slurm did not take the job: {one_line(str(error), 300)}; see the --slurm options") from error

    def poll(self, handle: Any) -> Exit | None:
        """Whether Slurm says that it is over; what it left says how."""
        job, folder = handle
        if not job.done():
            return None
        if state_of(folder) is RunState.FINISHED:
            return Exit(0)
        return Exit(message="" if job.paths.result_pickle.exists() else f"Slurm gave the run up ({one_line(str(job.state), 60)})")

    def cancel(self, handle: Any) -> None:
        """A run that is at work saves and stops; a job that waits is taken out of the queue."""
        job, folder = handle
        state = state_of(folder)
        if state is not None and state.live:
            DirectoryClient(folder).request("stop")
        else:
            job.cancel(check=False)

    def close(self) -> None:
        """Nothing to let go of: jobs go on without us."""
