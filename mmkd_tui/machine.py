"""What this machine has to train with, found without torch: processor cores, memory, NVIDIA GPUs."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from engine.control_group import memory_left, memory_limit, usable_cores
from engine.text import one_line
from mmkd_tui.nvml import nvml


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU, as its driver numbers it. Memory in bytes."""

    index: int
    name: str
    total: int
    free: int


@dataclass(frozen=True, slots=True)
class Machine:
    """Cores and memory that this process may use, in bytes (None: unknown), and GPUs."""

    cores: int
    memory: int | None
    free: int | None
    gpus: tuple[Gpu, ...] = ()


@lru_cache(maxsize=1)
def this_machine() -> Machine:
    """As it was when first asked."""
    total, free = _memory()
    return Machine(usable_cores(), total, free, _gpus())


def _memory() -> tuple[int | None, int | None]:
    found: dict[str, int] = {}
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii", errors="replace").splitlines():
            name, _, rest = line.partition(":")
            if name in ("MemTotal", "MemAvailable"):
                found[name] = int(rest.split()[0]) * 1024
    if "MemTotal" not in found:
        with suppress(OSError, ValueError, AttributeError):
            found["MemTotal"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return _smallest(found.get("MemTotal"), memory_limit()), _smallest(found.get("MemAvailable"), memory_left())


def _smallest(*sizes: int | None) -> int | None:
    return min((size for size in sizes if size is not None), default=None)


def _gpus() -> tuple[Gpu, ...]:
    try:
        library = nvml()
    except RuntimeError:
        return ()
    gpus = []
    try:
        for index in range(library.nvmlDeviceGetCount()):
            handle = library.nvmlDeviceGetHandleByIndex(index)
            memory = library.nvmlDeviceGetMemoryInfo(handle)
            name = library.nvmlDeviceGetName(handle)
            text = name.decode(errors="replace") if isinstance(name, bytes) else str(name)
            gpus.append(Gpu(index, one_line(text, 60), int(memory.total), int(memory.free)))
    except Exception:  # a GPU that has fallen off the bus: those before it are told
        pass
    finally:
        with suppress(Exception):
            library.nvmlShutdown()
    return tuple(gpus)
