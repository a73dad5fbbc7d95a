"""How a run ended: what stands in `result.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.untrusted import as_number, as_text

STOPPED = "stopped on request"


@dataclass(frozen=True, slots=True)
class TeacherResult:
    """What a teacher is worth, and how much it was trusted: mean weights over the samples of the last epoch."""

    name: str
    accuracy: float | None
    source: str | None
    key: str | None = None
    logit_weight: float | None = None
    feature_weight: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended. Accuracies are of the test split, in 0..1; null where the run did not come to them."""

    run_dir: str
    state: str = "failed"  # "done", "stopped" or "failed"
    message: str = ""
    mistake: bool = False  # the failure is one that the user can mend
    name: str = ""
    method: str = ""
    seed: int = 0
    only_teachers: bool = False  # it was to train teachers alone: there is no student
    student_accuracy: float | None = None
    student_alone_accuracy: float | None = None
    ensemble_accuracy: float | None = None
    teachers: tuple[TeacherResult, ...] = ()
    selected_on: str = "validation"
    best_epoch: int | None = None  # from 0
    best_accuracy: float | None = None  # on the split that chose
    seconds: float = 0.0  # of the whole run; of a resumed one, without what came after the checkpoint it went on from
    images_per_second: float | None = None  # of the distillation's training steps
    versions: dict[str, str] = field(default_factory=dict)


def stopped(lost: str) -> str:
    """The message of a run that was stopped; `lost` is what could not be saved, in words, if anything could not."""
    return f"{STOPPED}, but {lost}" if lost else STOPPED


def lost_by_stopping(message: str) -> str:
    """What `stopped` was told, of the message that it made."""
    _, _, lost = message.partition(f"{STOPPED}, but ")
    return lost


def result_from(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """From what a `result.json` says, whatever that is: every field of `Result`, of its type. None where it is no ending."""
    if values.get("state") not in ("done", "stopped", "failed"):
        return None
    teachers, best_epoch = values.get("teachers"), as_number(values.get("best_epoch"))
    known = {name: as_number(values.get(name)) for name in _NUMBERS}
    found = Result(
        run_dir=as_text(values.get("run_dir")),
        state=values["state"],
        message=as_text(values.get("message")),
        mistake=values.get("mistake") is True,
        name=as_text(values.get("name")),
        method=as_text(values.get("method")),
        seed=int(as_number(values.get("seed")) or 0),
        only_teachers=values.get("only_teachers") is True,
        teachers=tuple(_teacher(one) for one in teachers if isinstance(one, dict)) if isinstance(teachers, list) else (),
        selected_on=as_text(values.get("selected_on")),
        best_epoch=None if best_epoch is None else int(best_epoch),
        seconds=as_number(values.get("seconds")) or 0.0,
        versions=_texts(values.get("versions")),
        **known,
    )
    return asdict(found)


_NUMBERS = ("student_accuracy", "student_alone_accuracy", "ensemble_accuracy", "best_accuracy", "images_per_second")


def _teacher(values: dict[str, Any]) -> TeacherResult:
    return TeacherResult(
        name=as_text(values.get("name")),
        accuracy=as_number(values.get("accuracy")),
        source=as_text(values.get("source")) or None,
        key=as_text(values.get("key")) or None,
        logit_weight=as_number(values.get("logit_weight")),
        feature_weight=as_number(values.get("feature_weight")),
    )


def _texts(values: object) -> dict[str, str]:
    return {name: as_text(value) for name, value in values.items()} if isinstance(values, dict) else {}
