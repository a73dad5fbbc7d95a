"""Runs on this machine: a few at once on each device, each a detached process."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.control_group import usable_cores
from engine.gpu_lock import GpuBusyError, refuse_if_busy
from engine.paths import private_folder
from engine.run_dir import Lock, RunDir, take_over
from engine.spawning import start_host
from engine.sweeps.executor import Exit, Job, state_of, write_down


@dataclass(frozen=True, slots=True)
class LocalHandle:
    """A process, and the device that it has a slot of."""

    process: subprocess.Popen[bytes]
    device: str | None


class LocalExecutor:
    """`slots` runs at once on each of `devices`: GPUs as CUDA_VISIBLE_DEVICES names them, or one None, the machine as it is."""

    def __init__(
        self, devices: Sequence[str | None] = (None,), slots: int = 1, *, data_root: Path | None = None, force: bool = False
    ) -> None:
        """`force`: other runs may be at work on the same GPU; so it is where one device has several slots."""
        self.devices, self.slots, self.data_root = tuple(devices), slots, data_root
        self._share = force or slots > 1
        self._taken: list[LocalHandle] = []

    @property
    def capacity(self) -> int:
        """All slots, those of GPUs that others have now included."""
        return len(self.devices) * self.slots

    def submit(self, job: Job) -> LocalHandle:
        """Starts it on the device that has the fewest runs, none that others have unless they are to be shared."""
        busy = {device: self._had_by_others(job, device) for device in self.devices if self._count(device) < self.slots}
        free = [device for device, error in busy.items() if error is None]
        if not (free or self._share):
            raise next(error for error in busy.values() if error is not None)
        device = min(busy if self._share else free, key=lambda device: (self._count(device), device not in free))
        handle = LocalHandle(begin(job, self.data_root, ["--force"] * self._share, self._environment(job, device)), device)
        self._taken.append(handle)
        return handle

    def poll(self, handle: LocalHandle) -> Exit | None:
        """Whether its process has ended."""
        code = handle.process.poll()
        if code is None:
            return None
        if handle in self._taken:
            self._taken.remove(handle)
        return Exit(code)

    def cancel(self, handle: LocalHandle) -> None:
        """By a signal: that reaches it before it has a run to speak of, too."""
        with suppress(ProcessLookupError):
            handle.process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """Nothing to let go of."""

    def _count(self, device: str | None) -> int:
        return sum(handle.device == device for handle in self._taken)

    def _had_by_others(self, job: Job, device: str | None) -> GpuBusyError | None:
        """Whose a device is that has no run of ours."""
        if self._count(device):
            return None
        try:
            refuse_if_busy(job.preset.hardware.device, os.environ if device is None else {"CUDA_VISIBLE_DEVICES": device})
        except GpuBusyError as error:
            return error
        return None

    def _environment(self, job: Job, device: str | None) -> dict[str, str]:
        found = {} if device is None else {"CUDA_VISIBLE_DEVICES": device}
        # Several runs that each take all cores are slower than one after the other.
        if self.capacity > 1 and job.preset.hardware.threads is None and "OMP_NUM_THREADS" not in os.environ:
            found["OMP_NUM_THREADS"] = str(self._share_of_cores())
        return found

    def _share_of_cores(self) -> int:
        return max(usable_cores() // self.capacity, 1)


def begin(
    job: Job, data_root: Path | None = None, options: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Starts a run, or goes on with it. InUseError where another process has it, UserError where it is finished."""
    run_dir = RunDir(job.folder.absolute())
    begun = state_of(job.folder) is not None
    private_folder(job.folder)
    lock = take_over(run_dir) if begun else Lock(run_dir)
    try:
        write_down(job)
        return start_host(run_dir, lock, data_root, [*["--resume"] * begun, *options], environment)
    finally:
        lock.release()
