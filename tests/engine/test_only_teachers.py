"""A run of teachers alone: it ends with them in the store, is no less safe than any other, and has no student."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.hosts import Watched, no_process_left
from support.presets import tiny

from engine import Run
from engine.errors import UserError
from engine.events import Event, Log, Metrics, PhaseStarted, RunStarted, StudentAloneReady
from engine.paths import teacher_store
from engine.preset import Preset
from engine.preset_yaml import load_preset
from engine.result import Result
from engine.run_list import summary
from engine.run_state import RunState
from engine.shipping import open_run
from engine.spawning import respawn, spawn
from engine.teachers.store import TeacherStore

# The student's batch is larger than all images: nobody asks for it.
ALONE = ("only_teachers=true", "train.batch_size=161", "method.meta.buffer_size=161", "hardware.threads=1")
SEVERAL = 12  # epochs of the first teacher: long enough to be in the middle of it


def executed(preset: Preset, folder: Path) -> tuple[Result, list[Event]]:
    events: list[Event] = []
    run = Run(preset, folder)
    run.subscribe(events.append)
    return run.execute(), events


def stored() -> dict[str, bytes]:
    """Key and weights of every network in the store."""
    return {entry.key: (entry.path / "weights.safetensors").read_bytes() for entry in TeacherStore(teacher_store()).entries()}


def test_it_ends_with_its_teachers_and_a_whole_run_finds_them(tmp_path: Path) -> None:
    found, events = executed(tiny(*ALONE), tmp_path / "alone")
    assert (found.state, found.message) == ("done", "")
    assert found.only_teachers
    assert [teacher.source for teacher in found.teachers] == ["trained", "trained"]
    assert {teacher.key for teacher in found.teachers} == set(stored())
    assert (found.student_accuracy, found.best_epoch, found.images_per_second) == (None, None, None)
    assert found.ensemble_accuracy is not None
    phases = [event.phase for event in events if isinstance(event, PhaseStarted)]
    assert phases == ["teacher", "teacher"]
    assert not any(isinstance(event, StudentAloneReady) for event in events)
    assert next(event for event in events if isinstance(event, RunStarted)).only_teachers
    assert load_preset(tmp_path / "alone" / "preset.yaml").only_teachers
    assert summary(tmp_path / "alone").only_teachers
    left = {path.name for path in (tmp_path / "alone").rglob("*")}
    assert not {"student.safetensors", "analysis.json"} & left
    assert not any(name.startswith("teacher-") for name in left)  # checkpoints of what is in the store

    again, events = executed(tiny(*ALONE, "hardware.teachers=sharded"), tmp_path / "again")  # shared with nobody
    assert [(t.source, t.key, t.accuracy) for t in again.teachers] == [("store", t.key, t.accuracy) for t in found.teachers]
    assert not any(isinstance(event, PhaseStarted) for event in events)

    whole, _ = executed(tiny("train.epochs=1", "hardware.threads=1", "evaluate.student_alone=false"), tmp_path / "whole")
    assert [(t.source, t.key, t.accuracy) for t in whole.teachers] == [("store", t.key, t.accuracy) for t in found.teachers]
    assert whole.student_accuracy is not None
    assert not whole.only_teachers


def test_killed_in_the_middle_of_a_teacher_it_goes_on_from_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = tiny(*ALONE, f"teachers.0.train.epochs={SEVERAL}", "checkpoints.every=0")
    with monkeypatch.context() as patch:
        patch.setenv("MMKD_TEACHERS", str(tmp_path / "uninterrupted"))
        executed(preset, tmp_path / "whole")
        whole = stored()
    runs = tmp_path / "runs"
    with no_process_left(runs):
        run = Watched(spawn(preset, runs))
        run.wait_for(lambda event: isinstance(event, Metrics) and event.epoch >= 1, "the first teacher's second epoch")
        run.kill()
        run.wait_for_state(RunState.CRASHED)
        assert stored() == {}
        assert list((run.path / "checkpoints").glob("teacher-0-step-*"))
        respawn(run.path)
        run.wait_for_state(RunState.FINISHED, 120)
    assert run.seen(lambda event: isinstance(event, Log) and "resnet8-s0 goes on from checkpoints/teacher-0-" in event.message)
    assert stored() == whole
    ended = json.loads((run.path / "result.json").read_text())
    assert [teacher["source"] for teacher in ended["teachers"]] == ["trained", "trained"]
    assert ended["only_teachers"] is True
    assert not (run.path / "student.safetensors").exists()


def test_what_needs_a_student_says_that_there_is_none(tmp_path: Path) -> None:
    executed(tiny(*ALONE), tmp_path / "alone")
    with pytest.raises(UserError, match="alone has no student: it trained teachers alone"):
        open_run(tmp_path / "alone")


def test_a_stopped_one_becomes_no_whole_run(tmp_path: Path) -> None:
    run = Run(tiny(*ALONE), tmp_path / "alone")
    run.subscribe(lambda event: run.control.stop() if isinstance(event, Metrics) else None)
    assert run.execute().state == "stopped"
    with pytest.raises(UserError, match="only_teachers was True and is False"):
        respawn(tmp_path / "alone", overrides=["only_teachers=false"])
