"""Presets and runs as the home screen's rows: pure functions from what is known to text."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from engine.preset import Preset
from engine.preset_yaml import PresetEntry, list_presets, own_presets
from engine.run_list import RunSummary
from engine.run_state import RunState
from mmkd_tui.estimates import estimate, is_counted, rough_time, size_words
from mmkd_tui.figures import number_of, percent
from mmkd_tui.machine import Machine
from mmkd_tui.starting import missing_data
from mmkd_tui.stock import Stock
from mmkd_tui.widgets.marks import Marks
from mmkd_tui.widgets.table import Column, Row

PRESET_COLUMNS = (Column("", 18, most=36), Column("", 20, grow=True), Column("", 14, right=True))
RUN_COLUMNS = (
    Column("", 16),
    Column("", 21, grow=True),
    Column("", 20, most=26),
    Column("", 18),
    Column("", 10, right=True),
)
NARROW = 100  # columns of the terminal below which a run is told in fewer words
NARROW_RUN_COLUMNS = (
    Column("", 11),
    Column("", 14, grow=True),
    Column("", 10, least=70),  # the method goes first: names often have it
    Column("", 15),
    Column("", 8, right=True),
)
PHASES = {"teacher": "teachers", "alone": "student alone", "cache": "teacher cache", "distil": "distillation"}
SHORT_PHASES = {"teacher": "teachers", "alone": "alone", "cache": "cache", "distil": "distilling"}
SHORT_STATES = {RunState.NOT_RESPONDING: "no answer"}


@dataclass(frozen=True, slots=True)
class Offered:
    """A preset on the screen."""

    entry: PresetEntry
    own: bool  # the user's file, not a shipped one


def offered(folder: Path, data_root: Path) -> list[Offered]:
    """The shipped presets, and the user's own in `folder`; then those of them that are wrong, and those whose data is missing."""
    found = [Offered(entry, False) for entry in list_presets()]
    shipped = {item.entry.path.resolve() for item in found}
    found += [Offered(entry, True) for entry in own_presets(folder) if entry.path.resolve() not in shipped]
    return sorted(found, key=lambda item: _how_far(item, data_root))


def _how_far(item: Offered, data_root: Path) -> int:
    """From a run."""
    preset = item.entry.preset
    if preset is None:
        return 1 if item.own else 2
    return 2 if missing_data(preset.anchored(item.entry.path.parent).dataset, data_root) else 0


def preset_row(item: Offered, stock: Stock, machine: Machine, data_root: Path, marks: Marks) -> Row:
    """A preset: name, what it makes, how long it takes here; and below, what it is and what it needs."""
    entry, preset = item.entry, item.entry.preset
    own = f"your {entry.path.name}" if item.own else ""
    if preset is None:
        first = entry.mistakes[0]
        line, colon, said = first.partition(": ")
        short = f"{marks.wrong} {line}{colon}{said.rpartition('; ')[2]}"  # what mends it
        return Row(str(entry.path), (entry.name, short), below=(first, own) if own else (first,), strong=True)
    anchored = preset.anchored(entry.path.parent)
    here = not missing_data(anchored.dataset, data_root)
    data = (
        f"{marks.done} {preset.dataset.name} is here"
        if here
        else f"{marks.wrong} {preset.dataset.name} is missing{'' if preset.dataset.path else ': mmkd data fetch'}"
    )
    parts = [data, teachers_line(stock, anchored) if preset.teachers else "no teachers"]
    parts.append(own)
    about = rough_time(estimate(anchored, stock, machine).total) if is_counted(anchored.dataset) else "time not known"
    below = f" {marks.between} ".join(part for part in parts if part)
    counts = Counter(part.arch for part in preset.teachers)
    taught = ", ".join(arch if count == 1 else f"{count} x {arch}" for arch, count in counts.items())
    what = (
        f"{preset.method.name}: {taught} {marks.arrow} {preset.student.arch}"
        if taught
        else f"{preset.method.name}: {preset.student.arch}"
    )
    if preset.only_teachers:
        what = f"teachers alone: {taught}"
    lines = (entry.description, below) if entry.description else (below,)
    return Row(str(entry.path), (entry.name, what, about), below=lines, strong=True)


def teachers_line(stock: Stock, preset: Preset) -> str:
    """How many of a preset's teachers need no training."""
    files = sum(not part.trained for part in preset.teachers)
    stored = sum(stock.teacher(preset, part) is not None for part in preset.teachers)
    count = len(preset.teachers)
    if files + stored == count:
        return f"{'all ' * (count > 1)}{number_of(count, 'teacher')} at hand"
    return f"{stored + files} of {number_of(count, 'teacher')} at hand"


def machine_line(machine: Machine) -> str:
    """`2 cores, 25 GB, no GPU seen`"""
    memory = f", {size_words(machine.memory)}" if machine.memory else ""
    names = sorted({gpu.name for gpu in machine.gpus})
    gpus = f"{len(machine.gpus)} x {names[0]}" if len(names) == 1 else f"{len(machine.gpus)} GPUs" if names else "no GPU seen"
    return f"{machine.cores} core{'s' * (machine.cores != 1)}{memory}, {gpus}"


def run_row(run: RunSummary, marks: Marks, now: float, narrow: bool = False) -> Row:
    """A run: how it stands, what it is, how far or what came of it, when. `narrow`: for `NARROW_RUN_COLUMNS`."""
    return Row(
        id=str(run.path),
        cells=(
            state_cell(run.state, marks, narrow),
            run.name,
            _task(run, marks, narrow),
            progress(run, narrow),
            "" if run.started is None else ago(now - run.started, narrow),
        ),
        strong=run.state.live,
        note=" ".join(run.changed),
    )


def _task(run: RunSummary, marks: Marks, narrow: bool) -> str:
    """`mmkd s5 -> resnet8`: with the seed, by which runs of one preset differ."""
    if run.only_teachers:
        return "teachers" if narrow else "teachers alone"
    method = run.method if run.seed is None else f"{run.method} s{run.seed}"
    return method if narrow else f"{method} {marks.arrow} {run.student}"


def state_cell(state: RunState, marks: Marks, narrow: bool) -> str:
    """Its mark and its word."""
    return f"{marks.states[state]} {SHORT_STATES.get(state, state.value) if narrow else state.value}"


def progress(run: RunSummary, narrow: bool = False) -> str:
    """How far a live run is, or what a finished one brought."""
    if run.state.live or run.state is RunState.CRASHED:
        phase = (SHORT_PHASES if narrow else PHASES).get(run.phase, run.phase)
        return phase if run.share is None else f"{phase} {min(max(run.share, 0.0), 1.0):.0%}"
    if run.student_accuracy is None:
        return ""
    gain = "" if run.student_alone_accuracy is None else f" ({100 * (run.student_accuracy - run.student_alone_accuracy):+.1f})"
    return f"{percent(run.student_accuracy, 1)}{gain}"


def ago(seconds: float, narrow: bool = False) -> str:
    """How long since: `5 min ago`, or `5m ago`; the day, or month, where that is longer ago."""
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{seconds // 60:.0f}{'m' if narrow else ' min'} ago"
    if seconds < 48 * 3600:
        return f"{seconds // 3600:.0f}{'h' if narrow else ' h'} ago"
    if narrow and seconds < 100 * 86400:
        return f"{seconds // 86400:.0f}d ago"
    return time.strftime("%Y-%m" if narrow else "%Y-%m-%d", time.localtime(time.time() - seconds)) if seconds < 3e9 else ""
