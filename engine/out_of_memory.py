"""What is said where the device's memory does not suffice: what was being done, and which setting would make it smaller."""

from __future__ import annotations

import torch

from engine.errors import TrainingError


class OutOfMemoryError(TrainingError):
    """The device's memory does not suffice for what was asked. `str(error)` says what would."""


def told(doing: str, setting: str, size: int, error: torch.OutOfMemoryError) -> str:
    """A sentence on `doing` something `size` images at a time, which `setting` says. In brackets, PyTorch's own."""
    smaller = f"{setting}: {size // 2} would need about half" if size > 1 else "a smaller network is what would fit"
    return f"out of memory in {doing} with {setting} {size} ({_first(error)}); {smaller}"


def told_of(error: torch.OutOfMemoryError) -> str:
    """Where it is not known what was too much."""
    return f"out of memory ({_first(error)}); smaller networks, or another device (hardware.device), would fit"


def _first(error: torch.OutOfMemoryError) -> str:
    """What PyTorch could not get, without its advice."""
    sentences = " ".join(str(error).split()).split(". ")
    return ". ".join(sentences[:2]).rstrip(".") or type(error).__name__
