"""The machine and the software that figures belong to."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import torch

from engine.control_group import usable_cores
from engine.processor import FLAGS, processor
from engine.version import version


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
