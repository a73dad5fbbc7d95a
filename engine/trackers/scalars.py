"""What of a run's events is a number for a curve, and under which name."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from engine.events import Averages, EpochEnded, Metrics
from engine.result import Result

AVERAGES = (
    "lr",
    "loss",
    "ce",
    "logit",
    "feature",
    "accuracy",
    "outer_loss",
    "hard_accuracy",
    "logit_gradient",
    "feature_gradient",
)
PER_TEACHER = ("logit_weights", "logit_spread", "feature_weights", "feature_spread")
MEASURED = ("measured_accuracy", "measured_loss", "best_accuracy")
RESULTS = ("student_accuracy", "student_alone_accuracy", "ensemble_accuracy", "best_accuracy", "images_per_second", "seconds")
_STRANGE = re.compile(r"[^A-Za-z0-9_. -]")  # MLflow takes no other characters


def names_of(labels: Sequence[str]) -> tuple[str, ...]:
    """A name for each teacher that every tracker takes, each different."""
    plain = [_STRANGE.sub("_", label)[:60] for label in labels]
    return tuple(name if plain.count(name) == 1 else f"{number}-{name}" for number, name in enumerate(plain))


def scalars(event: Averages, teachers: Sequence[str]) -> dict[str, float]:
    """By names as `distil/loss`, `distil/epoch/loss`, `distil/logit_weights/TEACHER`, `teacher-0-TEACHER/loss`. None that is not
    finite. `teachers`: as `names_of` has them.
    """
    phase = event.phase
    if phase == "teacher":
        phase = f"teacher-{event.index}" + (f"-{teachers[event.index]}" if 0 <= event.index < len(teachers) else "")
    where = f"{phase}/epoch" if isinstance(event, EpochEnded) else phase
    found: dict[str, float | None] = {f"{where}/{name}": getattr(event, name) for name in AVERAGES}
    for name in PER_TEACHER:
        values = getattr(event, name)
        if len(values) == len(teachers):
            found |= {f"{where}/{name}/{teacher}": value for teacher, value in zip(teachers, values, strict=True)}
    if isinstance(event, EpochEnded):
        found |= {f"{phase}/{name}": getattr(event, name) for name in MEASURED}
    elif isinstance(event, Metrics):
        found[f"{where}/images_per_second"] = event.images_per_second
    return _finite(found)


def summary(result: Result) -> dict[str, float]:
    """A result's numbers, by names as `result/student_accuracy`."""
    values = asdict(result)
    found = {f"result/{name}": values[name] for name in RESULTS}
    for teacher, name in zip(result.teachers, names_of([teacher.name for teacher in result.teachers]), strict=True):
        found[f"result/teacher_accuracy/{name}"] = teacher.accuracy
    return _finite(found)


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}
