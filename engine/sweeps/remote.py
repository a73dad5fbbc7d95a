"""What a cluster's worker does for one run: starts its process, stays beside it, takes it down when the worker goes."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import plugins
from engine.control import NOTICES
from engine.errors import UserError
from engine.run_dir import RunDir
from engine.run_state import RunState, StateReader
from engine.spawning import start_host
from engine.sweeps.executor import Job, state_of

TICK = 0.2  # seconds between two looks
GRACE = 5.0  # seconds that a worker waits before it tells that a signal ended its run
PLACES = ("MMKD_TEACHERS", "MMKD_DATA", "MMKD_CACHE", "MMKD_TEACHER_CACHE")  # variables that hold on all machines


@dataclass(frozen=True, slots=True)
class Order:
    """A job, as it travels to another machine. Folders are the same on all of them."""

    folder: str
    data_root: str | None
    force: bool
    plugins: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)  # laid over the worker's

    @classmethod
    def of(cls, job: Job, data_root: Path | None, force: bool, environment: Mapping[str, str] | None = None) -> Order:
        """For a worker of a cluster."""
        return cls(
            str(job.folder.absolute()),
            None if data_root is None else str(data_root.expanduser().absolute()),
            force,
            tuple(str(plugin.path) for plugin in plugins.loaded()),
            dict(environment or {}),
        )


class Attempt:
    """One attempt at a run. A second one, on whatever machine, goes on where the first was."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Waits for the end of the run's process; its exit code. 0, too, where the run is done already.

        What interrupts this has the run stop and save first.
        """
        run_dir = RunDir(Path(self.order.folder))
        self._wait_until_free(run_dir)
        state = state_of(run_dir.path)
        if state is RunState.FINISHED:
            return 0
        root = None if self.order.data_root is None else Path(self.order.data_root)
        options = [*["--resume"] * (state is not None), *["--force"] * self.order.force]
        try:
            self.process = start_host(
                run_dir, None, root, options, self.order.environment, tied=True, plugin_files=self.order.plugins
            )
            while (code := self.process.poll()) is None:
                time.sleep(TICK)
            if code < 0 or code - 128 in (signal.SIGTERM, *NOTICES):
                # A node that goes down takes its processes one after the other: if we are next, this is no end of the run.
                time.sleep(GRACE)
            return code
        finally:
            self.stop()

    def stop(self) -> None:
        """Has the run save and end, and waits for that."""
        if self.process is not None and self.process.poll() is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGINT)
            while self.process.poll() is None:
                time.sleep(TICK)

    @staticmethod
    def _wait_until_free(run_dir: RunDir) -> None:
        """Until whoever had the run before has saved it and gone, or gives no sign of life any more."""
        reader = StateReader(run_dir)
        while reader.read().responding:
            time.sleep(TICK)


def do(order: Order) -> int:
    """An attempt, as a function."""
    return Attempt(order)()


def passed_on() -> dict[str, str]:
    """The variables of ours that hold for runs on other machines, too."""
    return {name: os.environ[name] for name in PLACES if name in os.environ}


def extra(module: str, name: str) -> Any:
    """The module of an optional dependency. UserError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(f"--on {name} needs {module}, which is not installed; pip install 'mmkd-tui[{name}]'") from None
