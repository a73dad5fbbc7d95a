"""The machine and the software that figures belong to."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from engine.control_group import usable_cores
from engine.text import one_line
from engine.version import version

FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd", "bf16", "sve")  # that change the speed


def describe(device: torch.device) -> dict[str, Any]:
    """As it is now, for the report."""
    model, flags = processor()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": model,
        "flags": [flag for flag in FLAGS if flag in flags],
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "load": load(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "mmkd": version(),
    }


def load() -> float | None:
    """How many processes wanted the processor, on average over the last minute."""
    with suppress(OSError, AttributeError):
        return round(os.getloadavg()[0], 2)
    return None


def processor() -> tuple[str, set[str]]:
    """Its name and all its flags, as Linux tells them."""
    text = ""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    return one_line(name[1] if name else platform.processor() or platform.machine()), set(flags[1].split() if flags else ())
