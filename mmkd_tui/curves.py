"""The curves of a run: its events as bounded histories over the epochs of each training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.events import Averages, EpochEnded, Event, Metrics, PhaseStarted
from mmkd_tui.widgets.series import Series

LIMIT = 2048  # points a series: ten times what a wide terminal has columns
MANY = 64  # metrics in a row beyond which they are thinned out: somebody opens a long run
POINTS = 64  # pieces that they are then thinned to, each its mean, lowest and highest value

LOSSES = {"total": "loss", "CE": "ce", "logit": "logit", "feature": "feature"}
NORMS = {"logit": "logit_gradient", "feature": "feature_gradient"}

Number = float | None


@dataclass(slots=True)
class PhaseCurves:
    """One training's histories; x is in epochs."""

    name: str
    index: int
    label: str
    epochs: int
    steps_per_epoch: int
    loss: dict[str, Series] = field(default_factory=dict)
    accuracy: dict[str, Series] = field(default_factory=dict)
    norms: dict[str, Series] = field(default_factory=dict)
    logit_weights: list[Series] = field(default_factory=list)
    feature_weights: list[Series] = field(default_factory=list)
    alarm: float | None = None  # the x of the first loss, or gradient, that is no number
    skipped: int = 0  # steps that were left out because loss or gradient was no number
    in_epoch: bool = False  # metrics have come since the epoch began

    def add_metrics(self, events: Sequence[Averages]) -> None:
        """Metrics in a row, oldest first."""
        size = math.ceil(len(events) / POINTS) if len(events) > MANY else 1
        for start in range(0, len(events), size):
            self._piece(events[start : start + size])
        self.in_epoch = True

    def add_epoch(self, event: EpochEnded) -> None:
        """What was measured; where no metrics came in this epoch, its averages stand for them."""
        if not self.in_epoch:
            self._piece([event])
        self.in_epoch = False
        x = self._x(event, 1)
        for name, value in (("validation", event.measured_accuracy), ("best", event.best_accuracy)):
            if value is not None:
                _series(self.accuracy, name).append(x, value)

    def _x(self, event: Averages, extra: int = 0) -> float:
        return event.step / self.steps_per_epoch if self.steps_per_epoch else float(event.epoch + extra)

    def _piece(self, events: Sequence[Averages]) -> None:
        newest = events[-1]
        x = self._x(newest)
        # Cross entropy is all of the loss where no teacher teaches: one curve then, not two.
        losses = LOSSES if self.name == "distil" else {"loss": "loss"}
        for table, names in ((self.loss, losses), (self.accuracy, {"train": "accuracy", "hard buffer": "hard_accuracy"})):
            for name, attribute in names.items():
                self._values(table, name, x, [getattr(event, attribute) for event in events])
        for name, attribute in NORMS.items():
            self._values(self.norms, name, x, [getattr(event, attribute) for event in events])
        if self.alarm is None:
            self.alarm = next((self._x(event) for event in events if event.loss is None or event.skipped), None)
        self.skipped += sum(event.skipped for event in events)
        for rows, weights in ((self.logit_weights, newest.logit_weights), (self.feature_weights, newest.feature_weights)):
            rows.extend(Series(LIMIT) for _ in range(len(weights) - len(rows)))
            for row, weight in zip(rows, weights, strict=False):
                row.append(x, weight)

    def _values(self, table: dict[str, Series], name: str, x: float, values: list[Number]) -> None:
        """What a series has of a piece: its mean, lowest and highest value, and a gap where a loss is no number.

        None says "not used by this method" until a first number has come; only the total loss is always there. Meta steps are
        done now and then: for their numbers, None is nothing out of the ordinary.
        """
        finite = [value for value in values if value is not None]
        if not finite and name not in table and name not in ("total", "loss"):
            return
        series = _series(table, name)
        if len(finite) > 2:
            finite = [sum(finite) / len(finite), min(finite), max(finite)]
        for value in finite:
            series.append(x, value)
        if table is self.loss and None in values:
            series.append(x, None)


class Curves:
    """All trainings' histories. `add` what comes, in order."""

    def __init__(self) -> None:
        self.phases: list[PhaseCurves] = []

    @property
    def now(self) -> PhaseCurves | None:
        """Those of the training in hand."""
        return self.phases[-1] if self.phases else None

    def add(self, events: Iterable[Event]) -> None:
        """Takes in events; one that makes no sense is skipped."""
        for kind, group in itertools.groupby(events, type):
            try:
                self._take(kind, list(group))
            except (TypeError, ValueError, AttributeError, ArithmeticError):
                continue

    def _take(self, kind: type[Event], events: list[Any]) -> None:
        """Events of one kind."""
        if kind is PhaseStarted:
            for event in events:
                self._begin(event)
        elif self.now is not None and kind is Metrics:
            self.now.add_metrics(events)
        elif self.now is not None and kind is EpochEnded:
            for event in events:
                self.now.add_epoch(event)

    def _begin(self, event: PhaseStarted) -> None:
        now = self.now
        if now is None or (now.name, now.index) != (event.phase, event.index):
            self.phases.append(PhaseCurves(event.phase, event.index, event.label, event.epochs, event.steps_per_epoch))


def _series(table: dict[str, Series], name: str) -> Series:
    if name not in table:
        table[name] = Series(LIMIT)
    return table[name]
