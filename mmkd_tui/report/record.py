"""A run as a report tells it: read once, from its folder alone, whatever state it is in."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.analysis import Analysis, read_analysis
from engine.errors import PresetError, UserError
from engine.plugins import Plugin, recorded
from engine.preset import Preset
from engine.preset_yaml import dump_preset, load_recorded
from engine.result import Result, result_from
from engine.run_client import DirectoryClient
from engine.run_dir import RunDir
from engine.run_state import RunState
from engine.text import plain
from engine.untrusted import as_text, read_object
from mmkd_tui.curves import PhaseCurves
from mmkd_tui.follow import Follower
from mmkd_tui.run_view import Message, PhaseView, RunView

SLICE = 0.5  # seconds of reading at a time
TROUBLES = 50  # warnings and errors that are told


@dataclass(frozen=True, slots=True)
class Record:
    """Everything in it that is text comes from files, and is untrusted."""

    path: Path
    state: RunState
    view: RunView
    curves: tuple[PhaseCurves, ...]
    result: Mapping[str, Any]  # every field of engine.result.Result; of a run without an ending, what is known so far
    preset: Preset | None  # None where preset.yaml cannot be read
    preset_text: str
    meta: Mapping[str, Any]
    analysis: Analysis | None = None  # None where it is missing or damaged
    analysis_damaged: bool = False
    plugins: tuple[Plugin, ...] = ()

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.path.name

    @property
    def distillation(self) -> PhaseCurves | None:
        """The student's training with teachers."""
        return next((phase for phase in reversed(self.curves) if phase.name == "distil"), None)

    @property
    def by_class(self) -> PhaseView | None:
        """The training whose last epochs have weights by class."""
        return next((phase for phase in reversed(self.view.phases) if phase.by_class is not None), None)

    @property
    def troubles(self) -> list[Message]:
        """Warnings and errors, the newest of them."""
        return [message for message in self.view.messages if message.level != "info"][-TROUBLES:]

    @property
    def device(self) -> str:
        """As the run said it."""
        return self.view.started.device if self.view.started is not None else as_text(self.meta.get("device"))


def read_record(path: Path) -> Record:
    """UserError where the folder holds no run, or one that has said nothing yet."""
    folder = RunDir(path)
    follower = Follower(DirectoryClient(path))
    while follower.reading:
        follower.step(SLICE)
    follower.look_again()
    follower.step(0)
    if follower.view.started is None:
        raise UserError(f"{plain(str(path))} has said nothing yet that could be reported; wait until its training has begun")
    preset, text = _preset(folder)
    written = result_from(read_object(folder.result) or {})
    analysis, damaged = _analysis(folder, follower.view)
    return Record(
        path=path.absolute(),
        state=follower.state,
        view=follower.view,
        curves=tuple(follower.curves.phases),
        result=written if written is not None else _so_far(path, follower.view, preset),
        preset=preset,
        preset_text=text,
        meta=read_object(folder.meta) or {},
        analysis=analysis,
        analysis_damaged=damaged,
        plugins=tuple(recorded(folder.meta)),
    )


def _analysis(folder: RunDir, view: RunView) -> tuple[Analysis | None, bool]:
    """The analysis where it is of this run's teachers; and whether there is one that is of no use."""
    found = read_analysis(folder.analysis)
    if found is not None and found.teachers == len(view.teachers):
        return found, False
    return None, os.path.lexists(folder.analysis)


def _preset(folder: RunDir) -> tuple[Preset | None, str]:
    try:
        preset = load_recorded(folder.preset)
    except PresetError as error:
        return None, "\n".join(error.problems)
    return preset, dump_preset(preset, brief=True)


def _so_far(path: Path, view: RunView, preset: Preset | None) -> Mapping[str, Any]:
    """Of a run that has no ending yet, in the words of one."""
    assert view.started is not None
    teachers = [
        {
            "name": teacher.label,
            "accuracy": teacher.accuracy,
            "source": teacher.source,
            "logit_weight": teacher.logit_weight,
            "feature_weight": teacher.feature_weight,
        }
        for teacher in view.teachers
    ]
    found = Result(str(path), state="stopped", name=view.started.name, method=view.started.method, seed=view.started.seed)
    known = result_from({field: getattr(found, field) for field in Result.__dataclass_fields__} | {"teachers": teachers})
    assert known is not None
    phase = next((phase for phase in view.phases if phase.name == "distil"), None)
    best = (phase.best_epoch, phase.best_accuracy) if phase is not None else (None, None)
    selected = preset.evaluate.select_on if preset is not None else "validation"
    more = {"student_alone_accuracy": view.alone_accuracy, "best_epoch": best[0], "best_accuracy": best[1]}
    more |= {"only_teachers": view.started.only_teachers}
    return known | more | {"seconds": view.seconds(view.latest or time.time()), "selected_on": selected}
