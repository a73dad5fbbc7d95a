"""How busy this machine is: its GPU where a run uses one, else processor and memory; read on a thread of its own."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine.control_group import memory
from engine.run_client import Process
from mmkd_tui.figures import percent
from mmkd_tui.nvml import nvml

EVERY = 2.0  # seconds
GIB = 1 << 30


class MachineUse:
    """Processor and memory, from /proc; elsewhere the load average. In a container or a job, memory is what is allowed there."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._before: tuple[int, int] | None = None  # busy, all: in ticks since the machine started

    def read(self) -> str:
        """For example `CPU 63 %  RAM 9.1/15.6 GiB`; "" where nothing is known."""
        return "  ".join(part for part in (self._processor(), self._memory()) if part)

    def _processor(self) -> str:
        try:
            ticks = [int(word) for word in (self._proc / "stat").read_text().partition("\n")[0].split()[1:9]]
            idle = ticks[3] + ticks[4]  # idle and waiting for a disk
        except (OSError, ValueError, IndexError):
            return self._load()
        before, self._before = self._before, (sum(ticks) - idle, sum(ticks))
        if before is None or self._before[1] <= before[1]:
            return ""
        return f"CPU {percent((self._before[0] - before[0]) / (self._before[1] - before[1]), 0)}"

    def _load(self) -> str:
        try:
            return f"load {os.getloadavg()[0]:.1f}"
        except (OSError, AttributeError):
            return ""

    def _memory(self) -> str:
        total, free = memory()
        return "" if free is None else f"RAM {max(total - free, 0) / GIB:.1f}/{total / GIB:.1f} GiB"


class GpuUse:
    """One NVIDIA GPU, by nvidia-ml-py, which is optional. RuntimeError where there is none to be read."""

    def __init__(self, which: int | str, library: Any = None) -> None:
        """`which`: its number or its UUID, as the driver has them. `library`: as `nvml` gives it, which is the default."""
        self._library = nvml() if library is None else library
        try:
            if isinstance(which, str):
                self._handle = self._library.nvmlDeviceGetHandleByUUID(which)
                self._index = int(self._library.nvmlDeviceGetIndex(self._handle))
            else:
                self._handle, self._index = self._library.nvmlDeviceGetHandleByIndex(which), which
        except Exception as error:  # the library has its own for a device that is not there
            raise RuntimeError("there is no such GPU") from error

    def read(self) -> str:
        """For example `GPU 0  93 %  11.2/79.6 GiB  61 °C`; what the driver does not tell is left out."""
        parts = [f"GPU {self._index}"]
        for tell in (self._use, self._memory, self._temperature):
            try:
                parts.append(tell())
            except Exception:
                continue
        return "  ".join(parts)

    def _use(self) -> str:
        return f"{self._library.nvmlDeviceGetUtilizationRates(self._handle).gpu} %"

    def _memory(self) -> str:
        memory = self._library.nvmlDeviceGetMemoryInfo(self._handle)
        return f"{memory.used / GIB:.1f}/{memory.total / GIB:.1f} GiB"

    def _temperature(self) -> str:
        return f"{self._library.nvmlDeviceGetTemperature(self._handle, self._library.NVML_TEMPERATURE_GPU)} °C"


def reader_for(device: str, process: Process | None) -> Callable[[], str]:
    """What to read for a run's process on this device: `cuda:1 (...)` has its GPU, where that is possible. Nothing of a run on
    another machine: what goes on here has nothing to do with it.
    """
    if process is None or not process.here:
        return lambda: ""
    machine = MachineUse()
    try:
        if (which := _which(device, process)) is None:
            return machine.read
        gpu = GpuUse(which)
    except RuntimeError:
        return machine.read
    return lambda: "  ".join(part for part in (gpu.read(), machine.read()) if part)


def _which(device: str, process: Process, environment: Mapping[str, str] = os.environ) -> int | str | None:
    """The GPU, as the driver knows it. A number of the run's is one of those that it could see: of a run that has not told the
    UUID, it is taken for the driver's where nothing says that only some can be seen.
    """
    found = re.match(r"cuda(?::(\d{1,3}))?", device)
    if found is None:
        return None
    if process.gpu:
        return process.gpu
    return int(found[1] or 0) if "CUDA_VISIBLE_DEVICES" not in environment else None


class SystemMonitor:
    """Reads every two seconds until `stop`; a driver that hangs holds up nobody. `latest` is the newest line."""

    def __init__(
        self, device: str, process: Process | None, make: Callable[[str, Process | None], Callable[[], str]] = reader_for
    ) -> None:
        self.latest = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(device, process, make), name="mmkd-system", daemon=True)
        self._thread.start()

    def _run(self, device: str, process: Process | None, make: Callable[[str, Process | None], Callable[[], str]]) -> None:
        read = make(device, process)
        read()
        while not self._stopped.wait(0.5 if not self.latest else EVERY):
            self.latest = read()

    def stop(self) -> None:
        """Lets the thread end."""
        self._stopped.set()
