"""What the benchmark can be asked for, as plain data: cases, subjects, and how far each size grows. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from engine.errors import UserError
from engine.text import one_line

LEAST_ROUNDS = 7


@dataclass(frozen=True, slots=True)
class Case:
    """Which teachers teach which student, on what batches."""

    name: str
    teachers: tuple[str, ...]
    student: str
    batch: int = 64
    classes: int = 100
    size: int = 32  # height = width, pixels; 3 channels
    buffer: int = 256  # samples in the hard buffer
    every: int = 5  # training steps to a meta step
    compiled: bool = True  # whether the engine's steps are timed as a long run takes them
    features: str | None = None  # the module whose output is the feature map, where a library's network has to be told
    varied: str = ""  # what was changed from the case of that name, in a growth table


CASES = {
    case.name: case
    for case in (
        Case("vgg", ("vgg13",) * 3, "vgg8"),
        Case("resnet", ("resnet20",) * 3, "resnet8"),
        # The map by its module's name: to watch for the global pooling costs each pass of the naive form time.
        Case(
            "imagenet",
            ("torchvision:resnet50",) * 3,
            "torchvision:resnet18",
            batch=32,
            classes=1000,
            size=224,
            buffer=64,
            features="layer4",
        ),
        # Seconds on any machine: shows that the benchmark itself works, and nothing of speed.
        Case("tiny", ("resnet8",) * 2, "resnet8", batch=8, classes=10, size=8, buffer=16, compiled=False),
    )
}
MEASURED = tuple(name for name in CASES if name != "tiny")  # what `all` means

SUBJECTS = {
    "naive": "MMKD as the public code does it, fp32",
    "exact": "the engine's MMKD, fp32",
    "auto": "the engine's MMKD, precision: auto",
    "cached": "the same with the teachers' outputs cached",
    "aver": "equal weights as the public code does it, fp32",
    "limit": "teachers' forward and a plain student step, as fast as can be",
    "student": "a plain student step, as fast as can be",
}

TEACHERS, BATCHES, CLASSES = (2, 3, 4, 6, 8), (32, 64, 128, 256, 512), (10, 100, 1000)


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for."""

    cases: tuple[Case, ...] = (CASES["vgg"],)
    subjects: tuple[str, ...] = tuple(SUBJECTS)
    device: str = "auto"
    rounds: int = LEAST_ROUNDS
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.rounds < LEAST_ROUNDS:
            raise UserError(f"--rounds is {self.rounds}; a median of fewer than {LEAST_ROUNDS} says little, ask for more")
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise UserError(f"--threads is {self.threads}; it must be 1 to 1024")


def plan(
    cases: Sequence[str] = (),
    only: Sequence[str] = (),
    *,
    device: str = "auto",
    rounds: int = LEAST_ROUNDS,
    threads: int | None = None,
    scale: bool = False,
) -> Plan:
    """From the words of a command line (`only`: names, or several with commas). UserError says what is wrong with them."""
    names = [name for given in cases for name in (MEASURED if given == "all" else [given])] or ["vgg"]
    for name in names:
        _check(CASES, name, "--case", "case", extra=("all",))
    chosen = [CASES[name] for name in dict.fromkeys(names)]
    wanted = {name.strip() for given in only for name in given.split(",")}
    for name in sorted(wanted):
        _check(SUBJECTS, name, "--only", "subject")
    subjects = tuple(name for name in SUBJECTS if not wanted or name in wanted)
    settings = tuple(setting for case in chosen for setting in (grown(case) if scale else [case]))
    return Plan(settings, subjects, device, rounds, threads)


def grown(case: Case) -> Iterator[Case]:
    """The case itself, then with other numbers of teachers, batch sizes and classes, one of them at a time."""
    yield case
    for k in TEACHERS:
        if k != len(case.teachers):
            yield replace(case, teachers=(case.teachers[0],) * k, varied="teachers")
    for batch in BATCHES:
        if batch != case.batch:
            yield replace(case, batch=batch, buffer=max(case.buffer, batch), varied="batch")
    for classes in CLASSES:
        if classes != case.classes:
            yield replace(case, classes=classes, varied="classes")


def _check(known: Iterable[str], name: str, option: str, kind: str, extra: Sequence[str] = ()) -> None:
    names = [*known, *extra]
    if name not in names:
        raise UserError(f"{option} {one_line(name, 60)}: there is no such {kind}; one of {', '.join(names)}")
