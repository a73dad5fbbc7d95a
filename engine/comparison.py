"""Runs side by side: in which settings they differ, where their curves ended, and what their seeds allow to be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.event_reader import EventReader
from engine.events import EpochEnded
from engine.overrides import flattened
from engine.preset import Preset
from engine.preset_yaml import load_recorded
from engine.result import result_from
from engine.run_dir import RunDir
from engine.run_state import StateReader
from engine.same_training import CHANGES_NOTHING, among, same_test_images
from engine.tables.statistics import Comparison, Summary, compare, holm, summarise
from engine.text import plain
from engine.untrusted import read_object


@dataclass(frozen=True, slots=True)
class End:
    """Where a run's curves ended: its last epoch of the distillation. Accuracies in 0..1, of the split that chooses."""

    epochs: int
    loss: float | None  # None where it was not a finite number
    accuracy: float | None  # of the last epoch that was measured
    best_accuracy: float | None
    best_epoch: int | None  # from 0


@dataclass(frozen=True, slots=True)
class Compared:
    """One run. `accuracy` is of the test split, in 0..1, where the run is done."""

    path: Path
    group: str  # the letter of its settings
    seed: int
    state: str
    selected_on: str  # the split that chooses the best epoch
    end: End | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that differ in their seeds alone. Accuracies in %, of the test split."""

    letter: str
    name: str  # the preset's
    settings: Mapping[str, Any]  # those that are not the same in every group
    summary: Summary
    comparison: Comparison | None  # with the first group; None for that, and where the images are others


@dataclass(frozen=True, slots=True)
class SideBySide:
    """What was found, in the order in which runs were named."""

    runs: tuple[Compared, ...]
    groups: tuple[Group, ...]
    notes: tuple[str, ...]

    @property
    def differing(self) -> tuple[str, ...]:
        """The settings that are not the same in every group."""
        return tuple(dict.fromkeys(key for group in self.groups for key in group.settings))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "runs": [asdict(run) | {"path": str(run.path)} for run in self.runs],
            "groups": [
                {"letter": g.letter, "name": g.name, "settings": dict(g.settings), "accuracy": asdict(g.summary)}
                | {"comparison": None if g.comparison is None else asdict(g.comparison)}
                for g in self.groups
            ],
            "notes": list(self.notes),
        }


def side_by_side(folders: Sequence[Path], ends: bool = True) -> SideBySide:
    """UserError where a folder's preset cannot be read, and where there is but one run.

    Without `ends`, where curves ended is not looked for: that is read from all events.
    """
    folders = list(dict.fromkeys(folder.resolve() for folder in folders))
    if len(folders) < 2:
        raise UserError("name two runs or more, to be held against each other")
    presets = [load_recorded(folder / "preset.yaml") for folder in folders]
    flat = [_trained(preset) for preset in presets]
    kinds = [settings for number, settings in enumerate(flat) if settings not in flat[:number]]
    letters = [_letter(kinds.index(settings)) for settings in flat]
    runs = tuple(_compared(*given, ends) for given in zip(folders, letters, presets, strict=True))
    keys = [key for key in dict.fromkeys(key for kind in kinds for key in kind) if len({repr(k.get(key)) for k in kinds}) > 1]
    notes, accuracies = [], []
    for number in range(len(kinds)):
        found: dict[int, float] = {}
        for run in runs:
            if run.group == _letter(number) and run.accuracy is not None:
                if run.seed in found:
                    notes.append(
                        f"{plain(run.path.name)} has the seed {run.seed} of another run of {run.group}; it is not counted"
                    )
                found.setdefault(run.seed, 100 * run.accuracy)
        accuracies.append(found)
    notes += [
        f"{plain(folder.name)} has no student: it trained teachers alone"
        for folder, preset in zip(folders, presets, strict=True)
        if preset.only_teachers
    ]
    same_images = all(same_test_images(presets[0].dataset, preset.dataset) for preset in presets)
    if not same_images:
        notes.append("the test images are not the same: accuracies are not held against each other")
    if any(key == "evaluate.select_on" for key in keys):
        notes.append("some chose their best epoch on the test split; those accuracies are too high")
    tests = [compare(found, accuracies[0]) if same_images else None for found in accuracies[1:]]
    corrected = holm([test.p if test else None for test in tests])
    held = [
        None,
        *(test and Comparison(test.pairs, test.difference, test.p, p) for test, p in zip(tests, corrected, strict=True)),
    ]
    groups = tuple(
        Group(
            _letter(n), _name(presets, letters, n), {key: kinds[n].get(key) for key in keys}, summarise(list(a.values())), held[n]
        )
        for n, a in enumerate(accuracies)
    )
    return SideBySide(runs, groups, tuple(notes))


def _trained(preset: Preset) -> dict[str, Any]:
    """What makes it another experiment, by dotted keys; its seed does not."""
    every = flattened(preset.model_dump(mode="json"))
    return {key: value for key, value in every.items() if not among(key, ("seed", *CHANGES_NOTHING))}


def _compared(folder: Path, letter: str, preset: Preset, with_end: bool) -> Compared:
    run = RunDir(folder)
    result = result_from(read_object(run.result) or {})
    accuracy = result["student_accuracy"] if result is not None and result["state"] == "done" else None
    end = _end(run) if with_end else None
    return Compared(folder, letter, preset.seed, str(StateReader(run).read()), preset.evaluate.select_on, end, accuracy)


def _end(run: RunDir) -> End | None:
    reader, last, accuracy = EventReader(run.events, metrics=False), None, None
    while not reader.caught_up:
        for event in reader.poll():
            if isinstance(event, EpochEnded) and event.phase == "distil":
                last, accuracy = event, accuracy if event.measured_accuracy is None else event.measured_accuracy
    return None if last is None else End(last.epoch + 1, last.loss, accuracy, last.best_accuracy, last.best_epoch)


def _name(presets: Sequence[Preset], letters: Sequence[str], number: int) -> str:
    return presets[letters.index(_letter(number))].name


def _letter(number: int) -> str:
    """A, B, ... Z, AA, AB, ..."""
    letters = ""
    number += 1
    while number:
        number, place = divmod(number - 1, 26)
        letters = chr(ord("A") + place) + letters
    return letters
