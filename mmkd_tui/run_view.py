"""A run as displays see it: the events so far, folded into what there is to show."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from engine.events import (
    Acknowledged,
    Averages,
    CheckpointSaved,
    EpochEnded,
    Event,
    Log,
    Metrics,
    PhaseStarted,
    RunEnded,
    RunStarted,
    StudentAloneReady,
    TeacherReady,
)


@dataclass(slots=True)
class TeacherView:
    """One teacher."""

    label: str
    accuracy: float | None = None
    source: str = ""
    logit_weight: float | None = None
    logit_spread: float | None = None
    feature_weight: float | None = None
    feature_spread: float | None = None


@dataclass(slots=True)
class PhaseView:
    """A training in hand or done."""

    name: str
    index: int
    label: str
    epochs: int
    steps: int
    started: float
    step: int = 0
    epoch: int = 0
    last: Averages | None = None
    images_per_second: float | None = None
    measured_accuracy: float | None = None
    best_accuracy: float | None = None
    done: bool = False

    @property
    def share(self) -> float:
        """Done so far, 0..1."""
        return self.step / self.steps if self.steps else 0.0

    def seconds_left(self, now: float) -> float | None:
        """By the pace so far; None before there is one."""
        return (now - self.started) / self.step * (self.steps - self.step) if self.step else None


@dataclass(slots=True)
class RunView:
    """Everything about a run that a display shows. `apply` each event, in order."""

    started: RunStarted | None = None
    teachers: list[TeacherView] = field(default_factory=list)
    phases: list[PhaseView] = field(default_factory=list)
    alone_accuracy: float | None = None
    alone_source: str = ""
    paused: bool = False
    stopping: bool = False
    ended: RunEnded | None = None
    messages: list[str] = field(default_factory=list)

    @property
    def phase(self) -> PhaseView | None:
        """The training in hand."""
        return self.phases[-1] if self.phases else None

    def apply(self, event: Event) -> None:
        """Takes in one event."""
        match event:
            case RunStarted():
                self.started = event
                self.teachers = [TeacherView(label) for label in event.teachers]
            case PhaseStarted():
                steps = event.epochs * event.steps_per_epoch
                self.phases.append(PhaseView(event.phase, event.index, event.label, event.epochs, steps, event.t))
            case Averages():
                self._average(event)
            case TeacherReady():
                teacher = self.teachers[event.index]
                teacher.accuracy, teacher.source = event.accuracy, event.source
                self._finish("teacher", event.index)
            case StudentAloneReady():
                self.alone_accuracy, self.alone_source = event.accuracy, event.source
                self._finish("alone", 0)
            case Acknowledged():
                self.paused = event.command == "pause" or (self.paused and event.command != "resume")
                self.stopping = self.stopping or event.command == "stop"
            case CheckpointSaved():
                self.messages.append(f"checkpoint {event.path}")
            case Log():
                self.messages.append(event.message)
            case RunEnded():
                self.ended = event
                if event.state == "done":
                    self._finish("distil", 0)
        del self.messages[:-200]

    def _average(self, event: Averages) -> None:
        phase = self.phase
        if phase is None:
            return
        phase.step, phase.epoch, phase.last = event.step, event.epoch, event
        if isinstance(event, Metrics):
            phase.images_per_second = event.images_per_second
        if isinstance(event, EpochEnded):
            if event.measured_accuracy is not None:
                phase.measured_accuracy = event.measured_accuracy
            phase.best_accuracy = event.best_accuracy
        for kind in ("logit", "feature"):
            for what in ("weights", "spread"):
                values = getattr(event, f"{kind}_{what}")
                for teacher, value in zip(self.teachers, values, strict=False):
                    setattr(teacher, f"{kind}_{what.removesuffix('s')}", value)

    def _finish(self, name: str, index: int) -> None:
        for phase in self.phases:
            if phase.name == name and phase.index == index:
                phase.done = True

    def seconds(self, now: float | None = None) -> float:
        """Since the run began."""
        if self.started is None:
            return 0.0
        return (self.ended.t if self.ended else now or time.time()) - self.started.t
