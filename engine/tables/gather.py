"""What the runs of a table brought: their results read, summed up line by line, compared with the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.result import result_from
from engine.run_dir import RunDir
from engine.sweeps.executor import state_of
from engine.tables.form import Published
from engine.tables.plan import Block, Plan, PlannedRun
from engine.tables.statistics import Comparison, Summary, compare, holm, summarise
from engine.untrusted import read_object


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """A run of the table: its state and, where it is done, its test accuracy in %."""

    run: PlannedRun
    state: str
    accuracy: float | None
    alone: float | None
    message: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a table. Accuracies in %, of the test split."""

    kind: str  # "teacher", "ensemble", "alone", "method" or "published"
    label: str
    summary: Summary
    method: str = ""  # the catalogue's name
    comparison: Comparison | None = None  # with the reference; None for the reference itself and what is no method
    published: tuple[Published, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """The lines of one preset."""

    title: str
    dataset: str
    student: str
    teachers: tuple[str, ...]  # their architectures
    selected_on: str
    reference: str
    lines: tuple[Line, ...]
    runs: tuple[FinishedRun, ...]

    @property
    def missing(self) -> int:
        """Runs that are not done."""
        return sum(run.accuracy is None for run in self.runs)


@dataclass(frozen=True, slots=True)
class Report:
    """All tables of a file."""

    name: str
    description: str
    tables: tuple[Table, ...]


def gather(plan: Plan) -> Report:
    """What there is now. Runs that are not done leave gaps."""
    return Report(plan.name, plan.description, tuple(_table(block, plan.reference) for block in plan.blocks))


def result_of(run: PlannedRun) -> dict[str, Any] | None:
    """Of a run that is done."""
    found = result_from(read_object(RunDir(run.folder).result) or {})
    return found if found is not None and found["state"] == "done" and found["student_accuracy"] is not None else None


def _table(block: Block, reference: str) -> Table:
    results = {(run.label, run.seed): found for run in block.runs if (found := result_of(run)) is not None}
    runs = tuple(_finished(run, results.get((run.label, run.seed))) for run in block.runs)
    figures = {
        label: {run.run.seed: run.accuracy for run in runs if run.run.label == label and run.accuracy is not None}
        for label in block.labels
    }
    lines = [*_context(block, list(results.values()), runs), *_methods(block, figures, reference)]
    known = {line.label for line in lines}
    elsewhere = dict.fromkeys(figure.method for figure in block.published if figure.method not in known)
    lines += [Line("published", label, Summary(0)) for label in elsewhere]
    lines = [
        replace(line, published=tuple(figure for figure in block.published if figure.method == line.label)) for line in lines
    ]
    preset = block.preset
    return Table(
        block.title,
        preset.dataset.name,
        preset.student.arch,
        tuple(teacher.arch for teacher in preset.teachers),
        block.selected_on,
        reference,
        tuple(lines),
        runs,
    )


def _finished(run: PlannedRun, result: Mapping[str, Any] | None) -> FinishedRun:
    if result is not None:
        return FinishedRun(run, "done", _percent(result["student_accuracy"]), _percent(result["student_alone_accuracy"]), "")
    state = state_of(run.folder)
    ended = result_from(read_object(RunDir(run.folder).result) or {}) or {}
    return FinishedRun(run, "not begun" if state is None else state.value, None, None, str(ended.get("message", "")))


def _context(block: Block, results: Sequence[Mapping[str, Any]], runs: Sequence[FinishedRun]) -> list[Line]:
    """What the students are held against: each teacher, the teachers' average, the student alone."""
    lines = []
    for number, label in enumerate(block.preset.teacher_labels):
        found = {
            teacher["accuracy"]
            for result in results
            if len(result["teachers"]) == len(block.preset.teachers)
            for teacher in result["teachers"][number : number + 1]
            if teacher["name"] == label and teacher["accuracy"] is not None
        }
        # Teachers are trained once; methods that are given other ones of the same name say nothing of these.
        if len(found) == 1:
            lines.append(Line("teacher", f"teacher {label}", summarise([_percent(found.pop()) or 0.0])))
    ensembles = {result["ensemble_accuracy"] for result in results if result["ensemble_accuracy"] is not None}
    if len(ensembles) == 1:
        lines.append(Line("ensemble", "teachers' average", summarise([_percent(ensembles.pop()) or 0.0])))
    alone: dict[int, set[float]] = {}
    for run in runs:
        if run.alone is not None:
            alone.setdefault(run.run.seed, set()).add(run.alone)
    # It depends on the seed and the training recipe only; where methods override the recipe there is no one student alone.
    if alone and all(len(values) == 1 for values in alone.values()):
        lines.append(Line("alone", "student alone", summarise([value for values in alone.values() for value in values])))
    return lines


def _methods(block: Block, figures: Mapping[str, Mapping[int, float]], reference: str) -> list[Line]:
    others = [label for label in block.labels if label != reference]
    compared = {label: compare(figures[label], figures[reference]) for label in others}
    corrected = dict(zip(others, holm([compared[label].p for label in others]), strict=True))
    lines = []
    for label, method in zip(block.labels, block.methods, strict=True):
        comparison = replace(compared[label], p_holm=corrected[label]) if label in compared else None
        lines.append(Line("method", label, summarise(list(figures[label].values())), method, comparison))
    return lines


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
