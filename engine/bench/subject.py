"""What is timed: a training step and, where there is one, a meta step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _at_once() -> None:
    pass


def _nothing(part: str) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Subject:
    """Steps on batches that lie on the device. A step need not wait for the device: whoever times it does.

    `settle` returns once the steps run in the form in which they will go on: compiled, where they are compiled. `held` is how
    many bytes a step ("train" or "meta") keeps to itself from one to the next, which no measurement of one sees.
    """

    name: str
    train: Callable[[], None]
    meta: Callable[[], None] | None = None
    settle: Callable[[], None] = _at_once
    held: Callable[[str], int] = _nothing
