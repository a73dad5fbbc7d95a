"""Runs on a Ray cluster: each a task of Ray's core, begun again on another node when its own is lost."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.run_client import DirectoryClient
from engine.spawning import source_path
from engine.sweeps.executor import Exit, Job, state_of, write_down
from engine.sweeps.remote import Order, do, extra, passed_on
from engine.text import one_line

RETRIES = 3  # of a run whose node was lost; each goes on from the newest checkpoint


class RayExecutor:
    """A cluster that is running, by its address, or one of this machine only, that ends with `close`.

    A run takes `hardware.threads` CPUs (1 where the preset says nothing) and, where the cluster has GPUs and the preset wants
    one, 1/`slots` of a GPU. Folders, teachers and data lie where all nodes find them under the same names.
    """

    def __init__(self, address: str | None = None, slots: int = 1, *, data_root: Path | None = None, force: bool = False) -> None:
        """UserError where Ray is not installed, or no cluster answers."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._ray = extra("ray", "ray")
        self.slots, self.data_root, self._force = slots, data_root, force or slots > 1
        # Nobody but this machine may reach a cluster that is ours: its ports have no password.
        own = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address is None else {}
        try:
            self._ray.init(
                address=address or "local",
                runtime_env={"env_vars": source_path() | passed_on()},
                log_to_driver=False,
                logging_level="error",
                **own,
            )
        except Exception as error:
            where = f"no Ray cluster answers at {address}" if address else "Ray cannot be started here"
            why = f"{where}: {one_line(str(error), 300)}; --ray names the address of a cluster, ray status tells of it"
            raise UserError(why) from error
        self._task = self._ray.remote(do)

    @property
    def capacity(self) -> int:
        """As many as the nodes of now have room for."""
        found = self._ray.cluster_resources()
        gpus = int(found.get("GPU", 0))
        return gpus * self.slots if gpus else max(1, int(found.get("CPU", 1)))

    def submit(self, job: Job) -> Any:
        """A task; Ray finds a node for it."""
        write_down(job)
        gpu = job.preset.hardware.device != "cpu" and self._ray.cluster_resources().get("GPU", 0) > 0
        task = self._task.options(
            name=job.folder.name,
            num_cpus=job.preset.hardware.threads or 1,
            num_gpus=1 / self.slots if gpu else 0,
            max_retries=RETRIES,
        )
        return task.remote(Order.of(job, self.data_root, self._force)), job.folder

    def poll(self, handle: Any) -> Exit | None:
        """Whether the task has come to its end, or will not."""
        task, _ = handle
        ready, _ = self._ray.wait([task], timeout=0)
        if not ready:
            return None
        try:
            return Exit(int(self._ray.get(task)))
        except self._ray.exceptions.TaskCancelledError:
            return Exit()
        except Exception as error:  # what Ray makes of a worker or a node that is gone
            return Exit(message=f"Ray gave the run up: {one_line(str(error), 300)}")

    def cancel(self, handle: Any) -> None:
        """What waits never begins. The worker of a run is interrupted, and has it save and stop; where the worker was started
        deaf to that, as by nohup, the run's folder is asked.
        """
        task, folder = handle
        if (state := state_of(folder)) is not None and state.live:
            with suppress(UserError):  # that cannot be written: the worker hears of it, if it is not deaf
                DirectoryClient(folder).request("stop")
        self._ray.cancel(task, force=False)

    def close(self) -> None:
        """Leaves the cluster; ends it, where it is ours."""
        self._ray.shutdown()
