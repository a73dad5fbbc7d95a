"""Which device a run uses."""

from __future__ import annotations

import torch

from engine.errors import UserError
from engine.preset import HardwarePart


def resolve_device(hardware: HardwarePart) -> torch.device:
    """The device that `hardware.device` names. UserError where this machine has none such."""
    name = hardware.device
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            have = f"{count} CUDA device{'s' if count > 1 else ''}" if count else "no CUDA device that PyTorch can use"
            raise UserError(f"hardware.device is {name}, but this machine has {have}; use --device auto or --device cpu")
    return device
