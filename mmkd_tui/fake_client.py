"""A run that nobody trains: plays what a real one might tell, always the same, for tests, pictures and demonstrations."""

from __future__ import annotations

import math
import platform
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.catalog import DATASETS
from engine.control import Command
from engine.events import (
    Acknowledged,
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
from engine.run_client import Process
from engine.run_state import RunState

TEACHERS = ("resnet56", "vgg13", "wrn_40_2")
TEACHER_ACCURACIES = (0.9312, 0.9247, 0.9378)
ALONE, DISTILLED, ENSEMBLE = 0.8974, 0.9186, 0.9451
STEPS = 6  # metrics an epoch
SECONDS = 0.1  # between two metrics


def story(
    *,
    name: str = "fashion-mnist",
    teachers: tuple[str, ...] = TEACHERS,
    classes: tuple[str, ...] = DATASETS["fashion-mnist"].classes,
    epochs: int = 240,
    teacher_epochs: int = 40,
) -> Iterator[Event]:
    """All events of a run; `t` is in seconds since its start."""
    clock = _Clock()
    yield RunStarted(
        t=clock.now,
        name=name,
        run_dir="runs/demo",
        dataset="fashion-mnist",
        classes=classes,
        teachers=teachers,
        student="resnet8",
        method="mmkd",
        device="cuda:0 (NVIDIA H100)",
        seed=0,
    )
    yield Log(t=clock.now, level="info", message="48,000 images to train on, 12,000 to validate, 10,000 to test")
    for index, label in enumerate(teachers):
        best = TEACHER_ACCURACIES[index % 3]
        yield from _training(clock, "teacher", index, label, teacher_epochs, best, 861_620, (), 0)
        yield TeacherReady(t=clock.now, index=index, label=label, accuracy=best, source="trained")
        yield Log(t=clock.now, level="info", message=f"{label} is in the store")
    yield from _training(clock, "alone", 0, "resnet8 alone", teacher_epochs, ALONE, 77_754, (), 0)
    yield StudentAloneReady(t=clock.now, accuracy=ALONE, source="trained")
    yield from _training(clock, "distil", 0, "resnet8 by mmkd", epochs, DISTILLED, 77_754, teachers, len(classes))
    yield RunEnded(t=clock.now, state="done")


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self.random = random.Random(7)

    def noise(self, size: float) -> float:
        return self.random.uniform(-size, size)


def _training(
    clock: _Clock,
    phase: str,
    index: int,
    label: str,
    epochs: int,
    best: float,
    parameters: int,
    teachers: tuple[str, ...],
    classes: int,
) -> Iterator[Event]:
    """One training; with teachers, their weights are told too."""
    yield PhaseStarted(
        t=clock.now, phase=phase, index=index, label=label, epochs=epochs, steps_per_epoch=STEPS * 62, parameters=parameters
    )
    reached, reached_at = 0.0, 0
    for epoch in range(epochs):
        for step in range(1, STEPS + 1):
            clock.now += SECONDS
            x = epoch + step / STEPS
            values = _values(clock, x / epochs, best, teachers)
            done = (epoch * STEPS + step) * 62
            position: dict[str, Any] = {"phase": phase, "index": index, "epoch": epoch, "step": done}
            lr = 0.05 * (1.0 if x < epochs * 0.6 else 0.1 if x < epochs * 0.85 else 0.01)
            pace = 11_400 + clock.noise(350)
            yield Metrics(t=clock.now, **position, lr=lr, steps=epochs * STEPS * 62, images_per_second=pace, **values)
        accuracy = best - 0.004 - 0.6 * math.exp(-7 * (epoch + 1) / epochs) + clock.noise(0.008)
        if accuracy > reached:
            reached, reached_at = accuracy, epoch
        by_class: dict[str, Any] = {
            f"{kind}_weights_by_class": tuple(_mixed(len(teachers), 0.8 * c + shift, 0.3) for c in range(classes))
            for kind, shift in (("logit", 0.0), ("feature", 2.0))
            if teachers
        }
        yield EpochEnded(
            t=clock.now,
            **position,
            lr=lr,
            **values,
            **by_class,
            measured_accuracy=accuracy,
            measured_loss=1.3 - accuracy,
            best_accuracy=reached,
            best_epoch=reached_at,
        )


def _values(clock: _Clock, share: float, best: float, teachers: tuple[str, ...]) -> dict[str, Any]:
    """Averages over some steps; `share` of the training is done."""
    fall = math.exp(-6 * share)
    ce = 2.1 * fall + 0.24 + clock.noise(0.16 * fall + 0.03)
    accuracy = min(best + 0.01 - 0.7 * math.exp(-8 * share) + clock.noise(0.012), 1.0)
    if not teachers:
        return {"loss": ce, "ce": ce, "accuracy": max(accuracy, 0.1)}
    logit = 1.1 * fall + 0.12 + clock.noise(0.05)
    feature = 0.5 * fall + 0.2 + clock.noise(0.03)
    count = len(teachers)
    return {
        "loss": ce + logit + feature,
        "ce": ce,
        "logit": logit,
        "feature": feature,
        "accuracy": max(accuracy, 0.1),
        "logit_weights": _mixed(count, 5 * share, 0.35),
        "logit_spread": tuple(0.05 + 0.02 * k for k in range(count)),
        "feature_weights": _mixed(count, 3 * share + 2, 0.25),
        "feature_spread": tuple(0.02 + 0.02 * k for k in range(count)),
        "outer_loss": 1.4 * fall + 0.5 + clock.noise(0.05),
        "hard_accuracy": max(min(accuracy - 0.22 + clock.noise(0.04), 1.0), 0.0),
        "logit_gradient": 0.02 * math.exp(-3 * share + clock.noise(0.5)),
        "feature_gradient": 0.006 * math.exp(-2 * share + clock.noise(0.5)),
    }


def _mixed(count: int, at: float, reach: float) -> tuple[float, ...]:
    """Weights that sum to 1 and wander with `at`."""
    raw = [1.0 + 2 * reach * math.sin(at + 2.1 * k) for k in range(count)]
    return tuple(value / sum(raw) for value in raw)


class FakeClient:
    """`RunClient` over a story, played `speed` times as fast as it was; pause, resume and stop are obeyed."""

    def __init__(
        self,
        events: Sequence[Event] | None = None,
        *,
        speed: float = 8.0,
        clock: Callable[[], float] = time.time,
        path: Path = Path("runs/demo"),
    ) -> None:
        self.path = path
        self.requests: list[tuple[str, Command]] = []
        self.forced: RunState | None = None  # a state that no story tells: crashed, not responding
        self.answers = True  # whether wishes are acknowledged
        self.owner: Process | None = Process(4711, platform.node())
        self.console: list[str] = ["the console of a demonstration"]
        self._events = list(story()) if events is None else list(events)
        self._speed, self._clock = speed, clock
        self._begin = self._mark = clock()
        self._played = 0.0
        self._next = 0
        self._told: list[Event] = []  # what wishes brought about
        self._paused = self._stopped = False

    def skip_to(self, seconds: float) -> None:
        """Goes on from this place of the story."""
        self._tick()
        self._begin -= (seconds - self._played) / self._speed
        self._played = seconds

    def poll(self) -> Sequence[Event]:
        self._tick()
        first = self._next
        while self._next < len(self._events) and self._next - first < 2000 and self._events[self._next].t <= self._played:
            self._next += 1
        told, self._told = self._told, []
        return [*(replace(event, t=self._begin + event.t / self._speed) for event in self._events[first : self._next]), *told]

    def caught_up(self) -> bool:
        return self._next >= len(self._events) or self._events[self._next].t > self._played

    def state(self) -> RunState:
        if self.forced is not None:
            return self.forced
        ended = next((event for event in self._events[: self._next][-1:] if isinstance(event, RunEnded)), None)
        if self._stopped:
            return RunState.STOPPED
        if ended is not None:
            return {"done": RunState.FINISHED, "stopped": RunState.STOPPED}.get(ended.state, RunState.FAILED)
        return RunState.PAUSED if self._paused else RunState.RUNNING

    def request(self, command: Command) -> str:
        id = f"demo-{len(self.requests) + 1}"
        self.requests.append((id, command))
        if self.answers:
            self._obey(id, command)
        return id

    def process(self) -> Process | None:
        return self.owner

    def result(self) -> Mapping[str, Any] | None:
        if self.state() is not RunState.FINISHED:
            return None
        started = next((event for event in self._events if isinstance(event, RunStarted)), None)
        names = started.teachers if started else TEACHERS
        weights = zip(_mixed(len(names), 5.0, 0.35), _mixed(len(names), 5.0, 0.25), strict=True)
        teachers = [
            {"name": name, "accuracy": TEACHER_ACCURACIES[k % 3], "source": "trained", "logit_weight": a, "feature_weight": b}
            for k, (name, (a, b)) in enumerate(zip(names, weights, strict=True))
        ]
        return {
            "run_dir": str(self.path),
            "state": "done",
            "message": "",
            "name": started.name if started else "demo",
            "method": "mmkd",
            "student_accuracy": DISTILLED,
            "student_alone_accuracy": ALONE,
            "ensemble_accuracy": ENSEMBLE,
            "teachers": teachers,
            "selected_on": "validation",
            "best_epoch": 231,
            "best_accuracy": 0.9171,
            "seconds": 312.4,
            "images_per_second": 11_400.0,
        }

    def console_tail(self, lines: int = 200) -> Sequence[str]:
        return self.console[-lines:]

    def _tick(self) -> None:
        now = self._clock()
        if self._paused or self._stopped:
            self._begin += now - self._mark  # the story stands still
        else:
            self._played += (now - self._mark) * self._speed
        self._mark = now

    def _obey(self, id: str, command: Command) -> None:
        self._tick()
        if command in ("stop", "checkpoint"):
            self._told.append(CheckpointSaved(t=self._mark, path="checkpoints/demo", step=0))
        self._told.append(Acknowledged(t=self._mark, id=id, command=command))
        if command in ("pause", "resume"):
            self._paused = command == "pause"
        elif command == "stop":
            self._told.append(RunEnded(t=self._mark, state="stopped", message="stopped on request"))
            self._stopped = True
