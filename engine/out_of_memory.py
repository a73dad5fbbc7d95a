"""What is said where the device's memory does not suffice: what was being done, and which setting would make it smaller."""

from __future__ import annotations

import torch

from engine.errors import TrainingError


class TooLargeError(MemoryError):
    """Who wanted the memory knows which setting was too large: `str(error)` is what is told."""


class OutOfMemoryError(TrainingError):
    """The device's memory does not suffice for what was asked. `str(error)` says what would."""


def lacks_memory(error: BaseException) -> bool:
    """Whether memory did not suffice. For a processor's PyTorch has no error of its own."""
    ours = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return ours or (isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error))


def told(doing: str, setting: str, size: int, error: BaseException) -> str:
    """A sentence on `doing` something `size` images at a time, which `setting` says. In brackets, PyTorch's own. What the error
    knows better, it tells itself.
    """
    if isinstance(error, TooLargeError):
        return str(error)
    smaller = f"{setting}: {size // 2} would need about half" if size > 1 else "a smaller network is what would fit"
    return f"out of memory in {doing} with {setting} {size} ({_first(error)}); {smaller}"


def told_of(error: BaseException, remedy: str = "smaller networks, or another device (hardware.device), would fit") -> str:
    """Where it may not be known what was too much."""
    return str(error) if isinstance(error, TooLargeError) else f"out of memory ({_first(error)}); {remedy}"


def _first(error: BaseException) -> str:
    """What PyTorch could not get, without its advice and the place in its source."""
    sentences = " ".join(str(error).split()).rpartition("DefaultCPUAllocator: ")[2].split(". ")
    return ". ".join(sentences[:2]).rstrip(".") or type(error).__name__
