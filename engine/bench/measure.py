"""Timing subjects in turn, round after round, and the memory that a step of each takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch

from engine.bench.memory import peak_of
from engine.bench.subject import Subject

WARM_UP = 3  # steps; a meta step that takes longer than SLOW is warmed up by one
SLOW = 1.0  # seconds
SAMPLE = 0.1  # seconds that a sample lasts at least: shorter steps are taken several times
MOST_REPEATS = 100


class Doing(NamedTuple):
    """What the benchmark is at."""

    stage: str  # a few of them a case
    what: str


Tell = Callable[[Doing], None]


@dataclass(slots=True)
class Series:
    """One kind of step of one subject."""

    step: Callable[[], None]
    repeats: int = 1  # steps to a sample
    peak: int | None = None  # bytes above what lay in memory before the step
    samples: list[float] = field(default_factory=list)  # ms a step
    held: Callable[[], int] = int  # bytes that it keeps to itself


@dataclass(slots=True)
class Measured:
    """A subject's two series; no meta step, no series."""

    subject: Subject
    train: Series
    meta: Series | None

    @classmethod
    def of(cls, subject: Subject) -> Measured:
        """Nothing measured yet."""
        train = Series(subject.train, held=partial(subject.held, "train"))
        return cls(subject, train, Series(subject.meta, held=partial(subject.held, "meta")) if subject.meta else None)

    def series(self) -> list[tuple[str, Series]]:
        """By what a person calls them."""
        return [("training step", self.train), *([("meta step", self.meta)] if self.meta else [])]


def measure(subjects: Sequence[Measured], rounds: int, device: torch.device, tell: Tell) -> None:
    """Warms every subject up, then takes a sample of each series in each round, there and back in turn.

    Samples go into `subjects` as they come, so that what was measured before an interruption is not lost.
    """
    for measured in subjects:
        tell(Doing("warming up", measured.subject.name))
        measured.subject.settle()
        for _, series in measured.series():
            _warm_up(series, device)
    for number in range(rounds):
        for measured in subjects if number % 2 == 0 else reversed(subjects):
            for what, series in measured.series():
                tell(Doing(f"round {number + 1} of {rounds}", f"{measured.subject.name}, {what}"))
                series.samples.append(_time(series.step, series.repeats, device) * 1000)


def _warm_up(series: Series, device: torch.device) -> None:
    taken = _time(series.step, 1, device)
    for _ in range(WARM_UP - 1 if taken < SLOW else 0):
        taken = _time(series.step, 1, device)
    peak = peak_of(series.step, device)
    series.peak = None if peak is None else peak + series.held()
    series.repeats = min(max(1, math.ceil(SAMPLE / taken)), MOST_REPEATS)


def _time(step: Callable[[], None], repeats: int, device: torch.device) -> float:
    """Seconds a step, device's work included."""
    synchronise(device)
    began = time.perf_counter()
    for _ in range(repeats):
        step()
    synchronise(device)
    return (time.perf_counter() - began) / repeats


def synchronise(device: torch.device) -> None:
    """Waits for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
