"""The typed events that a run emits: the one language between the engine and any display, and the lines of `events.jsonl`.

Every event is one JSON object a line with `kind`, `n` (how many were written before it) and `t` (seconds since the epoch, by a
clock that never jumps within one process). Accuracies are in 0..1, losses as the method defines them. The first line is
`run_started` and carries the schema's version; readers skip kinds and fields unknown to them. A long file is thinned
(thinning.py): then numbers are missing, and none stands twice.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from engine.untrusted import LATEST

SCHEMA = 1

# Of one process: the wall clock when it began, and from then on a clock that nobody sets.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_BEGAN = time.time() - time.clock_gettime(_CLOCK)

_Reader = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of all events."""

    kind: ClassVar[str] = ""
    t: float = field(default_factory=lambda: _BEGAN + time.clock_gettime(_CLOCK))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """What this run is. Written first, and again by a process that goes on with it."""

    kind: ClassVar[str] = "run_started"
    schema: int = SCHEMA
    name: str
    run_dir: str
    dataset: str
    classes: tuple[str, ...]
    teachers: tuple[str, ...]  # labels for displays
    student: str
    method: str
    device: str
    seed: int
    resumed: bool = False
    only_teachers: bool = False  # the run ends with its teachers: there will be no student, and no distillation


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStarted(Event):
    """A part of the run begins: a teacher's training, the student alone, the distillation."""

    kind: ClassVar[str] = "phase_started"
    phase: str  # "teacher", "alone" or "distil"
    index: int  # which teacher; 0 elsewhere
    label: str
    epochs: int
    steps_per_epoch: int
    parameters: int  # of the network that is trained
    step: int = 0  # training steps done before: not 0 where a checkpoint is gone on from


@dataclass(frozen=True, slots=True, kw_only=True)
class Averages(Event):
    """What `metrics` and `epoch_ended` share: averages over some training steps. K teachers."""

    phase: str
    index: int
    epoch: int  # from 0
    step: int  # training steps done in this phase
    lr: float
    loss: float | None  # null where it is not a finite number; so for the next three
    ce: float | None
    logit: float | None = None
    feature: float | None = None
    accuracy: float  # on the training batches as augmented
    logit_weights: tuple[float, ...] = ()  # [K], means over the samples
    logit_spread: tuple[float, ...] = ()  # [K], standard deviations over the samples
    feature_weights: tuple[float, ...] = ()
    feature_spread: tuple[float, ...] = ()
    outer_loss: float | None = None  # of the meta steps, as are the next three
    hard_accuracy: float | None = None  # of the student, on batches from the hard buffer
    logit_gradient: float | None = None  # norm of the hyper-gradient
    feature_gradient: float | None = None
    skipped: int = 0  # training steps that were left out, and are in no average: loss or gradient was not a finite number


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics(Averages):
    """Averages over the training steps since the last such event (at most 10 a second)."""

    kind: ClassVar[str] = "metrics"
    steps: int  # of the whole phase
    images_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochEnded(Averages):
    """Averages over one epoch: exact, and the same for the same preset, seed and machine."""

    kind: ClassVar[str] = "epoch_ended"
    logit_weights_by_class: tuple[tuple[float, ...], ...] = ()  # [C][K], means over a class's samples
    feature_weights_by_class: tuple[tuple[float, ...], ...] = ()
    measured_accuracy: float | None = None  # on the split that chooses; null where this epoch was not measured
    measured_loss: float | None = None
    best_accuracy: float | None = None
    best_epoch: int | None = None  # from 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherReady(Event):
    """A teacher is at hand."""

    kind: ClassVar[str] = "teacher_ready"
    index: int
    label: str
    accuracy: float  # on the test split
    source: str  # "trained", "store", "checkpoint" or "pretrained"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentAloneReady(Event):
    """The same student, trained without teachers, is at hand."""

    kind: ClassVar[str] = "student_alone_ready"
    accuracy: float
    source: str  # "trained" or "store"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheProgress(Event):
    """The teacher cache is being computed. The first such event is its beginning; in the last, `done` is `total`."""

    kind: ClassVar[str] = "cache_progress"
    label: str  # whose outputs are computed now
    view: int  # from 0
    views: int
    done: int  # passes of an image through a teacher
    total: int
    images_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint is whole and on the disk."""

    kind: ClassVar[str] = "checkpoint_saved"
    path: str  # relative to the run's folder
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged(Event):
    """A person's wish was carried out (pause, resume, checkpoint) or is being carried out (stop)."""

    kind: ClassVar[str] = "acknowledged"
    id: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Log(Event):
    """A line for people."""

    kind: ClassVar[str] = "log"
    level: str  # "info", "warning" or "error"
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(Event):
    """The last line, unless the run is resumed later: how it ended. `result.json` has the figures."""

    kind: ClassVar[str] = "run_ended"
    state: str  # "done", "stopped" or "failed"
    message: str = ""


KINDS: dict[str, type[Event]] = {
    cls.kind: cls for cls in (*Event.__subclasses__(), *Averages.__subclasses__()) if cls is not Averages
}


def to_line(event: Event, number: int | None = None) -> str:
    """One line of JSON, newline included. A number that is not finite becomes null: JSON has none."""
    values = {name: _plain(getattr(event, name)) for name in (f.name for f in dataclasses.fields(event))}
    first = {"kind": event.kind} if number is None else {"kind": event.kind, "n": number}
    return json.dumps(first | values, separators=(",", ":"), ensure_ascii=False) + "\n"


def number_of(line: bytes) -> int | None:
    """The number that an event was written with, whatever its kind; None where there is none. Little of the line is read."""
    found = _NUMBERED.match(line)
    return int(found[1]) if found else None


def from_line(line: str) -> Event | None:
    """The event of a line; None for a kind that is not known here, and for a line that is no event of its kind."""
    try:
        values = _DECODER.decode(line)
        kind = values.pop("kind")
        readers = _READERS[kind]
        return KINDS[kind](**{name: readers[name](value) for name, value in values.items() if name in readers})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value


# Whoever can write a run's folder can write anything there: what comes out of `from_line` has the types that are declared.


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _bool(value: Any) -> Any:
    if type(value) is bool:
        return value
    raise TypeError


def _str(value: Any) -> Any:
    if type(value) is str:
        return value
    raise TypeError


def _int(value: Any) -> Any:
    if type(value) is int and -_HUGE < value < _HUGE:
        return value
    raise TypeError


def _float(value: Any) -> Any:
    if type(value) is float and value - value == 0.0:  # and so finite
        return value
    return float(_int(value))


def _moment(value: Any) -> Any:
    """Seconds since the epoch that a calendar can show."""
    number = _float(value)
    if 0 <= number <= LATEST:
        return number
    raise TypeError


def _item(value: Any) -> Any:
    """A number in a list: null stands for one that was not finite."""
    return math.nan if value is None else _float(value)


def _maybe(reader: _Reader) -> _Reader:
    return lambda value: None if value is None else reader(value)


def _many(reader: _Reader) -> _Reader:
    def read(value: Any) -> Any:
        if type(value) is list:
            return tuple([reader(item) for item in value])
        raise TypeError

    return read


_HUGE = 1 << 63
_NUMBERED = re.compile(rb'\{"kind":"\w{1,64}","n":(\d{1,18}),')
_DECODER = json.JSONDecoder(parse_constant=_refused)
_BY_TYPE: dict[Any, _Reader] = {
    "bool": _bool,
    "int": _int,
    "int | None": _maybe(_int),
    "float": _float,
    "float | None": _maybe(_float),
    "str": _str,
    "tuple[str, ...]": _many(_str),
    "tuple[float, ...]": _many(_item),
    "tuple[tuple[float, ...], ...]": _many(_many(_item)),
}
_READERS = {
    kind: {f.name: _moment if f.name == "t" else _BY_TYPE[f.type] for f in dataclasses.fields(cls)} for kind, cls in KINDS.items()
}
