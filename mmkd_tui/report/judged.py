"""What the student and its teachers made of the test images, for a report: tables, sentences, the hardest images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.analysis import Agreement, Guess, HardImage, Mistake, Trust
from engine.run_state import RunState
from engine.text import one_line
from mmkd_tui.figures import percent
from mmkd_tui.report.record import Record
from mmkd_tui.report.thumbnail import data_uri, thumbnail
from mmkd_tui.report.words import teachers_of

LISTED = 8  # mistakes in a table
NEAR = 0.0005  # of accuracy


@dataclass(frozen=True, slots=True)
class Table:
    """Texts; all columns from `numbers` on are numbers."""

    title: str
    about: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    numbers: int = 2


@dataclass(frozen=True, slots=True)
class Opinion:
    """A teacher on a hard image. Weights are shares in 0..1; None where the method does not weigh image by image."""

    teacher: str
    says: str
    sure: str
    right: bool
    logit_weight: float | None
    feature_weight: float | None


@dataclass(frozen=True, slots=True)
class Card:
    """A hard image; `picture` is a data URI, empty where there is none."""

    number: int
    label: str
    says: str
    sure: str
    of_label: str
    right: bool
    together: str  # what the teachers' average says; empty without teachers
    opinions: list[Opinion]
    picture: str


@dataclass(frozen=True, slots=True)
class Judged:
    """The sections of a report that come from `analysis.json`; `missing` says why there are none."""

    missing: str
    agreement: list[str]
    mistakes: list[Table]
    trust: Table | None
    hardest: list[Card]
    kinds: list[str]  # of weights that the cards show: "logit", "feature"


def judged(record: Record) -> Judged:
    """Of a run, whatever it left."""
    found = record.analysis
    if found is None:
        return Judged(_why_missing(record), [], [], None, [], [])
    names, teachers = class_names(record), teachers_of(record)
    cards = [_card(image, names, teachers) for image in found.hardest]
    guesses = [opinion for card in cards for opinion in card.opinions]
    kinds = [kind for kind in ("logit", "feature") if any(getattr(one, f"{kind}_weight") is not None for one in guesses)]
    mistakes = []
    if found.agreement is not None:
        mistakes = _mistakes(found.agreement, names, len(teachers))
    if found.classes > len(found.confusion.classes) or found.agreement is None:
        rows = [
            (names(one.label), names(one.predicted), str(one.student), "" if one.ensemble is None else str(one.ensemble))
            for one in found.pairs
            if one.student
        ]
        columns: tuple[str, ...] = ("it is", "the student says", "student", "teachers' average")
        if found.agreement is None:
            columns, rows = columns[:3], [row[:3] for row in rows]  # type: ignore[misc]
        if rows:
            mistakes.append(Table("What the student confuses most", "Test images.", columns, list(rows[:LISTED])))
    return Judged(
        missing="",
        agreement=[] if found.agreement is None else _agreement(found.agreement, len(teachers)),
        mistakes=mistakes,
        trust=None if found.logit_weights is None else _trust(found.logit_weights, teachers),
        hardest=cards,
        kinds=kinds,
    )


def _why_missing(record: Record) -> str:
    if record.analysis_damaged:
        return "Confusions and hardest images cannot be told: the run's analysis.json is damaged, or of another release."
    if record.view.started is not None and record.view.started.only_teachers:
        return "No student was trained: there is none to hold against the teachers."
    if record.state is RunState.FINISHED:
        return "Confusions and hardest images cannot be told: this run left no analysis.json, which older releases did not write."
    return "Confusions and hardest images are told when the run has finished."


class Names:
    """A class's name by its number, fit to be shown."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = [one_line(name, 40) for name in names]

    def __call__(self, number: int) -> str:
        """The number itself where it has no name."""
        return self._names[number] if number < len(self._names) and self._names[number] else str(number)


def class_names(record: Record) -> Names:
    """As the run told them."""
    return Names(record.view.started.classes if record.view.started is not None else ())


def _agreement(found: Agreement, teachers: int) -> list[str]:
    total = found.both_right + found.student_wrong + found.teachers_wrong + found.both_wrong
    who = "the teachers' average" if teachers > 1 else "its teacher"
    return [
        f"Of {total:,} test images the student and {who} both get {found.both_right:,} right and {found.both_wrong:,} wrong; "
        f"only the student errs on {found.student_wrong:,}, only {who} on {found.teachers_wrong:,}."
    ]


def _mistakes(found: Agreement, names: Names, teachers: int) -> list[Table]:
    who = "its teachers" if teachers > 1 else "its teacher"

    def rows(mistakes: Sequence[Mistake]) -> list[tuple[str, ...]]:
        shown: list[tuple[str, ...]] = []
        for one in mistakes[:LISTED]:
            right = sum(one.right) / one.images
            cells = (names(one.label), names(one.predicted), f"{one.images:,}", f"{right:.1f} of {teachers}")
            shown.append(cells if teachers > 1 else cells[:3])
        return shown

    tables = (
        (f"Mistakes that the student makes and {who} {'do' if teachers > 1 else 'does'} not", "student", found.student_mistakes),
        (
            f"Mistakes that {who} make{'' if teachers > 1 else 's'} and the student does not",
            "teachers' average" if teachers > 1 else "teacher",
            found.teacher_mistakes,
        ),
    )
    built = []
    for title, subject, mistakes in tables:
        columns: tuple[str, ...] = (
            "it is",
            f"the {subject} says" if not subject.startswith("teachers") else f"{subject} says",
            "images",
        )
        columns += ("teachers right",) if teachers > 1 else ()
        built.append(Table(title, "" if mistakes else "None.", columns, rows(mistakes)))
    return built


def _trust(found: Trust, teachers: Sequence[str]) -> Table:
    def told(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    rows: list[tuple[str, ...]] = [
        (
            teachers[k],
            told(found.mean[k]),
            told(found.spread[k]),
            told(found.where_right[k]),
            told(found.where_wrong[k]),
            percent(found.first[k]),
        )
        for k in range(len(teachers))
    ]
    gain = found.accuracy - found.plain_accuracy
    said = "as good as" if abs(gain) < NEAR else f"{abs(gain) * 100:.2f} points {'more' if gain > 0 else 'less'} than"
    about = (
        f"Weights on every test image as the method ended: mean, standard deviation, means where the teacher is right and "
        "wrong. The teachers' average by these weights is right on "
        f"{percent(found.accuracy)}, {said} their plain average ({percent(found.plain_accuracy)})."
    )
    columns = ("teacher", "mean", "spread", "where right", "where wrong", "trusted most on")
    return Table("Whom the logit weights trust on the test images", about, columns, rows, numbers=1)


def _card(image: HardImage, names: Names, teachers: Sequence[str]) -> Card:
    def opinion(teacher: str, guess: Guess) -> Opinion:
        right = guess.predicted == image.label
        return Opinion(teacher, names(guess.predicted), _sure(guess.probability), right, guess.logit_weight, guess.feature_weight)

    together = ""
    if image.ensemble is not None and len(teachers) > 1:
        together = ", ".join(filter(None, (names(image.ensemble.predicted), _sure(image.ensemble.probability))))
    return Card(
        number=image.number,
        label=names(image.label),
        says=names(image.student.predicted),
        sure=_sure(image.student.probability),
        of_label=_sure(image.student.of_label),
        right=image.student.predicted == image.label,
        together=together,
        opinions=[opinion(teacher, guess) for teacher, guess in zip(teachers, image.teachers, strict=True)],
        picture=data_uri(thumbnail(image.png)),
    )


def _sure(probability: float | None) -> str:
    return "" if probability is None else f"{probability:.0%}"
