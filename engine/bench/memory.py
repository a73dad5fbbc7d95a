"""How much memory a step takes at its peak, above what lies in memory before it."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

PROC = Path("/proc/self")


def peak_of(step: Callable[[], None], device: torch.device) -> int | None:
    """Bytes; None where the system does not tell. On CUDA by torch's allocator, on the CPU by the kernel's high-water mark."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what the C library keeps of earlier steps would hide what this one needs
    try:
        (PROC / "clear_refs").write_text("5")  # sets the mark down to what is resident now; proc(5)
        before = _high_water()
    except (OSError, LookupError):
        step()
        return None
    step()
    return max(0, _high_water() - before)


def _high_water() -> int:
    found = re.search(r"^VmHWM:\s+(\d+) kB", (PROC / "status").read_text(), re.MULTILINE)
    if found is None:
        raise LookupError("VmHWM")
    return int(found[1]) * 1024
