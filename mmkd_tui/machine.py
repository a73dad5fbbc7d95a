"""What this machine has to train with, found without torch: processor cores, memory, NVIDIA GPUs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from engine.control_group import memory, usable_cores
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
    return Machine(usable_cores(), *memory(), _gpus())


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
