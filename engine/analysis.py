"""What the best student and its teachers made of the test images: the form of `analysis.json`, written and read.

Its size is bounded whatever the data set: counts between at most SHOWN classes, PAIRS lines of a list, HARDEST images.
Whoever reads one holds it to be a stranger's.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.untrusted import as_number, read_object

FORM = 1  # of the file; another release's may differ
SHOWN = 20  # classes between which all counts are kept
PAIRS = 12  # pairs of classes in a list
HARDEST = 24  # images
SIDE = 64  # pixels of a picture, at most
BINS = 20  # of a histogram over 0..1
MOST_PICTURE = 32 << 10  # bytes of a picture's PNG
MOST_BYTES = 4 << 20  # of the file
MOST_TEACHERS = 64
MOST_CLASSES = 1 << 24

Counts = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Images by true class (row) and predicted class (column), among `classes`."""

    classes: tuple[int, ...]
    student: Counts
    ensemble: Counts | None  # of the plain average of the teachers' probabilities; None without teachers
    teachers: tuple[Counts, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """How many images of class `label` each network takes for class `predicted`."""

    label: int
    predicted: int
    student: int
    ensemble: int | None
    teachers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Mistake:
    """Images of class `label` that one side takes for `predicted` where the other is right; `right`: so many by each teacher."""

    label: int
    predicted: int
    images: int
    right: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The test images by who is right: the student, and the plain average of the teachers."""

    both_right: int
    student_wrong: int  # alone
    teachers_wrong: int  # alone
    both_wrong: int
    student_mistakes: tuple[Mistake, ...]  # that the teachers' average does not make
    teacher_mistakes: tuple[Mistake, ...]  # that the student does not make


@dataclass(frozen=True, slots=True)
class Trust:
    """A method's weights for each of K teachers over the test images; means are None where there is no such image."""

    mean: tuple[float, ...]
    spread: tuple[float, ...]  # standard deviation over the images
    where_right: tuple[float | None, ...]  # mean over the images that the teacher gets right
    where_wrong: tuple[float | None, ...]
    first: tuple[float, ...]  # share of the images on which it has the largest weight
    histogram: Counts  # K rows of BINS
    accuracy: float  # of the teachers' probabilities averaged by these weights
    plain_accuracy: float  # averaged equally


@dataclass(frozen=True, slots=True)
class Guess:
    """What a network says of an image. Probabilities are None where they are not finite."""

    predicted: int
    probability: float | None  # of what it predicts
    of_label: float | None  # of the true class
    logit_weight: float | None = None  # how much it is trusted on this image; None where the method does not say so
    feature_weight: float | None = None


@dataclass(frozen=True, slots=True)
class HardImage:
    """One of the test images with the largest cross entropy of the student."""

    number: int  # in the test split
    label: int
    loss: float | None
    student: Guess
    ensemble: Guess | None
    teachers: tuple[Guess, ...]
    png: bytes = b""  # empty where there is no picture


@dataclass(frozen=True, slots=True)
class Analysis:
    """All of it. `images` are those that could be read."""

    images: int
    classes: int
    teachers: int
    confusion: Confusion
    pairs: tuple[Pair, ...]  # the student's commonest confusions and the largest differences from the teachers' average
    agreement: Agreement | None  # None without teachers
    logit_weights: Trust | None  # None where the method weighs no logits sample by sample
    hardest: tuple[HardImage, ...]  # the hardest first


def analysis_text(analysis: Analysis) -> str:
    """As it stands in the file."""
    values = {"form": FORM, **asdict(analysis)}
    for image in values["hardest"]:
        image["png"] = base64.b64encode(image["png"]).decode()
    return json.dumps(values, allow_nan=False, separators=(",", ":")) + "\n"


def read_analysis(path: Path) -> Analysis | None:
    """What the file says, of the right types and within bounds; None where it is missing, damaged or of another form.

    Pictures are bytes of whatever kind: see `mmkd_tui.report.thumbnail`.
    """
    values = read_object(path, MOST_BYTES)
    if values is None or values.get("form") != FORM:
        return None
    try:
        return _analysis(values)
    except _UnfitError:
        return None


class _UnfitError(Exception):
    """Something is not of its type, or out of its bounds."""


def _analysis(values: dict[str, Any]) -> Analysis:
    classes, teachers = _whole(values, "classes", 1, MOST_CLASSES), _whole(values, "teachers", 0, MOST_TEACHERS)
    agreement, trust = values.get("agreement"), values.get("logit_weights")
    return Analysis(
        images=_whole(values, "images", 1),
        classes=classes,
        teachers=teachers,
        confusion=_confusion(_object(values.get("confusion")), classes, teachers),
        pairs=tuple(_pair(_object(one), classes, teachers) for one in _list(values, "pairs", 4 * PAIRS)),
        agreement=None if agreement is None else _agreement(_object(agreement), classes, teachers),
        logit_weights=None if trust is None else _trust(_object(trust), teachers),
        hardest=tuple(_hard(_object(one), classes, teachers) for one in _list(values, "hardest", HARDEST)),
    )


def _confusion(values: dict[str, Any], classes: int, teachers: int) -> Confusion:
    shown = tuple(_integer(one, 0, classes - 1) for one in _list(values, "classes", SHOWN))
    if len(set(shown)) < len(shown):
        raise _UnfitError
    ensemble = values.get("ensemble")
    return Confusion(
        classes=shown,
        student=_counts(values.get("student"), len(shown), len(shown)),
        ensemble=None if ensemble is None else _counts(ensemble, len(shown), len(shown)),
        teachers=tuple(_counts(one, len(shown), len(shown)) for one in _list(values, "teachers", teachers, teachers)),
    )


def _pair(values: dict[str, Any], classes: int, teachers: int) -> Pair:
    return Pair(
        label=_whole(values, "label", 0, classes - 1),
        predicted=_whole(values, "predicted", 0, classes - 1),
        student=_whole(values, "student"),
        ensemble=None if values.get("ensemble") is None else _whole(values, "ensemble"),
        teachers=tuple(_integer(one) for one in _list(values, "teachers", teachers, teachers)),
    )


def _agreement(values: dict[str, Any], classes: int, teachers: int) -> Agreement:
    def mistakes(name: str) -> tuple[Mistake, ...]:
        found = []
        for one in map(_object, _list(values, name, PAIRS)):
            label, predicted = (_whole(one, which, 0, classes - 1) for which in ("label", "predicted"))
            right = tuple(_integer(number) for number in _list(one, "right", teachers, teachers))
            found.append(Mistake(label, predicted, _whole(one, "images", 1), right))
        return tuple(found)

    return Agreement(
        both_right=_whole(values, "both_right"),
        student_wrong=_whole(values, "student_wrong"),
        teachers_wrong=_whole(values, "teachers_wrong"),
        both_wrong=_whole(values, "both_wrong"),
        student_mistakes=mistakes("student_mistakes"),
        teacher_mistakes=mistakes("teacher_mistakes"),
    )


def _trust(values: dict[str, Any], teachers: int) -> Trust:
    def shares(name: str) -> tuple[float, ...]:
        return tuple(_share(one) for one in _list(values, name, teachers, teachers))

    def means(name: str) -> tuple[float | None, ...]:
        return tuple(_share_or_none(one) for one in _list(values, name, teachers, teachers))

    return Trust(
        mean=shares("mean"),
        spread=shares("spread"),
        where_right=means("where_right"),
        where_wrong=means("where_wrong"),
        first=shares("first"),
        histogram=_counts(values.get("histogram"), teachers, BINS),
        accuracy=_share(values.get("accuracy")),
        plain_accuracy=_share(values.get("plain_accuracy")),
    )


def _hard(values: dict[str, Any], classes: int, teachers: int) -> HardImage:
    ensemble, loss = values.get("ensemble"), values.get("loss")
    if loss is not None and as_number(loss) is None:
        raise _UnfitError
    return HardImage(
        number=_whole(values, "number"),
        label=_whole(values, "label", 0, classes - 1),
        loss=as_number(loss),
        student=_guess(_object(values.get("student")), classes),
        ensemble=None if ensemble is None else _guess(_object(ensemble), classes),
        teachers=tuple(_guess(_object(one), classes) for one in _list(values, "teachers", teachers, teachers)),
        png=_bytes(values.get("png")),
    )


def _guess(values: dict[str, Any], classes: int) -> Guess:
    shares = (_share_or_none(values.get(name)) for name in ("probability", "of_label", "logit_weight", "feature_weight"))
    return Guess(_whole(values, "predicted", 0, classes - 1), *shares)


def _bytes(value: object) -> bytes:
    if not isinstance(value, str) or len(value) > MOST_PICTURE * 4 // 3 + 4:
        return b""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _UnfitError
    return value


def _list(values: dict[str, Any], name: str, most: int, least: int = 0) -> list[Any]:
    found = values.get(name)
    if not isinstance(found, list) or not least <= len(found) <= most:
        raise _UnfitError
    return found


def _counts(value: object, rows: int, columns: int) -> Counts:
    lines = _list({"": value}, "", rows, rows)
    return tuple(tuple(_integer(one) for one in _list({"": line}, "", columns, columns)) for line in lines)


def _whole(values: dict[str, Any], name: str, least: int = 0, most: int = 2**53) -> int:
    return _integer(values.get(name), least, most)


def _integer(value: object, least: int = 0, most: int = 2**53) -> int:
    if type(value) is not int or not least <= value <= most:
        raise _UnfitError
    return value


def _share(value: object) -> float:
    number = as_number(value)
    if number is None or not math.isfinite(number) or not -1e-6 <= number <= 1 + 1e-6:
        raise _UnfitError
    return min(max(number, 0.0), 1.0)


def _share_or_none(value: object) -> float | None:
    return None if value is None else _share(value)
