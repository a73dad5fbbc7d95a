"""A run as displays see it: the events so far, folded into what there is to show."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.events import (
    Acknowledged,
    Averages,
    CacheProgress,
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
from mmkd_tui.figures import number_of

MESSAGES = 500
LATE = 60.0  # seconds after an event in which the time left still counts down
STEADY = 21  # metrics over whose median the pace is told: about two seconds


class Message(NamedTuple):
    """A line for people. The text is untrusted."""

    t: float
    level: str
    text: str


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
    """A training in hand or done; or the teacher cache, whose steps are images and whose epochs are views."""

    name: str
    index: int
    label: str
    epochs: int
    steps: int
    started: float
    parameters: int = 0
    about: str = ""  # the teacher that the cache is being filled by
    step: int = 0
    epoch: int = 0
    last: Averages | None = None
    images_per_second: float | None = None
    measured_accuracy: float | None = None
    best_accuracy: float | None = None
    best_epoch: int | None = None
    by_class: EpochEnded | None = None  # the newest with weights by class
    done: bool = False
    paces: deque[float] = field(default_factory=lambda: deque(maxlen=STEADY))
    busy: float = 0.0  # seconds in which `busy_steps` steps were done, pauses left out
    busy_steps: int = 0
    at: float | None = None  # when `step` was reached; None: unknown, or a pause lies between

    @property
    def round(self) -> str:
        """What its epochs are called."""
        return "view" if self.name == "cache" else "epoch"

    @property
    def share(self) -> float:
        """Done so far, 0..1."""
        return min(self.step / self.steps, 1.0) if self.steps else 0.0

    @property
    def steady_images_per_second(self) -> float | None:
        """The median of the last seconds: one slow step does not make it jump."""
        return statistics.median(self.paces) if self.paces else None

    def seconds_left(self, now: float) -> float | None:
        """By the pace so far, pauses left out; None before there is one."""
        if not self.busy_steps:
            return None
        # Events carry the time by their process's clock, from which ours may be far.
        since = 0.0 if self.at is None else min(max(now - self.at, 0.0), LATE)
        return max(self.busy / self.busy_steps * (self.steps - self.step) - since, 0.0)


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
    messages: deque[Message] = field(default_factory=lambda: deque(maxlen=MESSAGES))
    said: int = 0  # messages ever
    checkpoint: CheckpointSaved | None = None  # the newest
    acknowledged: deque[str] = field(default_factory=lambda: deque(maxlen=64))  # ids of wishes
    before: float = 0.0  # seconds of the processes that were at work on it earlier
    latest: float | None = None  # when the newest event happened

    @property
    def task(self) -> str:
        """What is trained, in one line: `3 teachers -> resnet8 by mmkd on digits`. It is untrusted, as all names are."""
        if self.started is None:
            return ""
        teachers = number_of(len(self.started.teachers), "teacher")
        aim = "alone" if self.started.only_teachers else f"-> {self.started.student} by {self.started.method}"
        return f"{teachers} {aim} on {self.started.dataset}"

    @property
    def phase(self) -> PhaseView | None:
        """The training in hand."""
        return self.phases[-1] if self.phases else None

    @property
    def unweighted(self) -> bool:
        """Whether a distillation has begun whose method gives its teachers no weights."""
        told = [phase.last for phase in self.phases if phase.name == "distil" and phase.last is not None]
        return any(last.loss is not None and not last.logit_weights for last in told)

    def apply_all(self, events: Sequence[Event]) -> None:
        """Takes in many events; of metrics in a row, the last tells all that is kept. What makes no sense is skipped."""
        last = len(events) - 1
        for index, event in enumerate(events):
            if type(event) is Metrics and index < last and type(events[index + 1]) is Metrics:
                continue
            try:
                self.apply(event)
            except (TypeError, ValueError, IndexError, AttributeError, ArithmeticError):
                continue

    def apply(self, event: Event) -> None:
        """Takes in one event."""
        match event:
            case Averages():
                self._average(event)
            case RunStarted():
                self._start(event)
            case PhaseStarted():
                self._begin(event)
            case TeacherReady():
                teacher = self.teachers[max(event.index, 0)]
                teacher.accuracy, teacher.source = event.accuracy, event.source
                self._finish("teacher", event.index)
            case StudentAloneReady():
                self.alone_accuracy, self.alone_source = event.accuracy, event.source
                self._finish("alone", 0)
            case Acknowledged():
                self.acknowledged.append(event.id)
                self.paused = event.command == "pause" or (self.paused and event.command != "resume")
                self.stopping = self.stopping or event.command == "stop"
                if self.phase is not None and event.command in ("pause", "resume"):
                    self.phase.at = None
            case CacheProgress():
                self._cache(event)
            case CheckpointSaved():
                self.checkpoint = event
                self._say(event.t, "info", f"checkpoint {event.path}")
            case Log():
                self._say(event.t, event.level, event.message)
            case RunEnded():
                self.ended = event
                self.paused = self.stopping = False
                if event.state == "done":
                    self._finish("distil", 0)
                if event.message:
                    self._say(event.t, "error" if event.state == "failed" else "info", event.message)
        self.latest = event.t

    def _start(self, event: RunStarted) -> None:
        """A run begins, or is taken up again: then what is known of its teachers stays."""
        if self.started is not None and event.resumed:
            self.before += self._until(self.latest)
        if self.started is None or self.started.teachers != event.teachers:
            self.teachers = [TeacherView(label) for label in event.teachers]
        self.started, self.ended = event, None
        self.paused = self.stopping = False

    def _begin(self, event: PhaseStarted) -> None:
        before = self.phase
        if before is not None and (before.name, before.index) == (event.phase, event.index):
            before.at, before.step, before.done = event.t, event.step, False  # taken up again
            return
        steps = max(event.epochs * event.steps_per_epoch, 0)
        phase = PhaseView(event.phase, event.index, event.label, event.epochs, steps, event.t, event.parameters)
        phase.step, phase.at = event.step, event.t
        self.phases.append(phase)

    def _average(self, event: Averages) -> None:
        phase = self.phase
        if phase is None:
            return
        if phase.at is not None and event.step > phase.step:
            phase.busy += max(event.t - phase.at, 0.0)
            phase.busy_steps += event.step - phase.step
        phase.step, phase.epoch, phase.last, phase.at = event.step, event.epoch, event, event.t
        if isinstance(event, Metrics):
            phase.images_per_second = event.images_per_second
            phase.paces.append(event.images_per_second)
        if isinstance(event, EpochEnded):
            if event.measured_accuracy is not None:
                phase.measured_accuracy = event.measured_accuracy
            phase.best_accuracy, phase.best_epoch = event.best_accuracy, event.best_epoch
            if event.logit_weights_by_class:
                phase.by_class = event
        for kind in ("logit", "feature"):
            for what in ("weights", "spread"):
                values = getattr(event, f"{kind}_{what}")
                for teacher, value in zip(self.teachers, values, strict=False):
                    setattr(teacher, f"{kind}_{what.removesuffix('s')}", value)

    def _cache(self, event: CacheProgress) -> None:
        phase = self.phase
        if phase is None or phase.name != "cache":
            phase = PhaseView("cache", 0, "teacher cache", event.views, 0, event.t, step=event.done, at=event.t)
            self.phases.append(phase)
        if phase.at is not None and event.done > phase.step:
            phase.busy += max(event.t - phase.at, 0.0)
            phase.busy_steps += event.done - phase.step
        phase.about, phase.steps, phase.done = event.label, max(event.total, 0), event.done >= event.total
        phase.step, phase.epoch, phase.at = event.done, event.view, event.t
        if event.images_per_second > 0:
            phase.images_per_second = event.images_per_second
            phase.paces.append(event.images_per_second)

    def _finish(self, name: str, index: int) -> None:
        for phase in self.phases:
            if phase.name == name and phase.index == index:
                phase.done = True

    def _say(self, t: float, level: str, text: str) -> None:
        self.messages.append(Message(t, level, text))
        self.said += 1

    def seconds(self, now: float | None = None) -> float:
        """In which a process has been at work on the run: the time between an end and a resumption is left out."""
        if self.started is None:
            return 0.0
        return self.before + self._until(self.ended.t if self.ended else now or time.time())

    def _until(self, moment: float | None) -> float:
        return max(moment - self.started.t, 0.0) if self.started is not None and moment is not None else 0.0
