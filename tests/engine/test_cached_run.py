"""Runs with a teacher cache: they learn the same, ask no teacher, and go on to the bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from support.presets import ON_CPU, tiny

from engine import Preset, Run
from engine.control_group import Memory
from engine.data import Batch
from engine.events import CacheProgress, EpochEnded, Event, Log, Metrics, PhaseStarted
from engine.models import Output
from engine.models.panel import TeacherPanel
from engine.paths import teacher_cache
from engine.ranks import Ranks
from engine.teachers.cache import CachedTeachers
from engine.teachers.cache_space import MOST

SETTINGS = ("evaluate.student_alone=false", "hardware.threads=1")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the teachers of the small preset."""
    folder = tmp_path_factory.mktemp("store")
    run = Run(tiny("train.epochs=1", *SETTINGS), folder / "run", store=folder / "teachers")
    assert run.execute().state == "done"
    return folder / "teachers"


def executed(run: Run, stop: Any = lambda event: False) -> list[Event]:
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if stop(event):
            run.control.stop()

    run.subscribe(listen)
    run.execute()
    return events


def done(preset: Preset, folder: Path, store: Path) -> list[Event]:
    run = Run(preset, folder, store=store)
    events = executed(run)
    assert run.result is not None
    assert run.result.state == "done", run.result.message
    return events


def losses(events: list[Event]) -> list[list[float]]:
    ended = [event for event in events if isinstance(event, EpochEnded) and event.phase == "distil"]
    return [[e.loss or 0.0, e.ce or 0.0, e.logit or 0.0, e.feature or 0.0, e.outer_loss or 0.0] for e in ended]


def weights(folder: Path) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in safetensors.torch.load_file(folder / "student.safetensors").items()}


@pytest.mark.parametrize("method", ["mmkd", "aver"])
def test_with_the_images_as_they_are_it_learns_as_without_a_cache(tmp_path: Path, store: Path, method: str) -> None:
    own = ("train.augment=false", *SETTINGS, *(["method={name: aver}"] if method == "aver" else []))
    plain = losses(done(tiny(*own), tmp_path / "plain", store))
    cached = losses(done(tiny(*own, "teacher_cache.views=1"), tmp_path / "cached", store))
    assert len(plain) == len(cached) == 3
    # Training magnifies the last digits that half precision lacks; at first they are all that differs.
    for one, other, exact in zip(plain, cached, (1e-3, 1e-2, 2e-2), strict=True):
        assert other == pytest.approx(one, rel=exact)


def test_in_a_run_every_batch_is_answered_as_by_the_teachers(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []

    class Compared(CachedTeachers):
        def of(self, batch: Batch) -> list[Output]:
            found = super().of(batch)
            asked = self.panel.of(batch._replace(images=batch.images.cpu()))  # where a filled cache leaves the teachers
            for one, other in zip(found, asked, strict=True):
                torch.testing.assert_close(one.logits.cpu(), other.logits, rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(one.features.cpu(), other.features, rtol=2**-10, atol=1e-5)
            compared.append(len(found))
            return found

    monkeypatch.setattr("engine.run.CachedTeachers", Compared)
    done(tiny("teacher_cache.views=2", "hardware.precision=fp32", *SETTINGS), tmp_path / "run", store)
    assert compared == [2] * 15


def test_a_second_run_asks_no_teacher(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    ask = TeacherPanel.__call__

    def counted(self: TeacherPanel, images: torch.Tensor) -> list[Output]:
        passes.append(len(images))
        return ask(self, images)

    monkeypatch.setattr(TeacherPanel, "__call__", counted)
    first = done(tiny("teacher_cache.views=3", ON_CPU, *SETTINGS), tmp_path / "one", store)
    assert sum(passes) == 2 * 3 * 160  # teachers, views, images: none in training
    progress = [event for event in first if isinstance(event, CacheProgress)]
    assert progress[-1].done == progress[-1].total == sum(passes)
    passes.clear()
    second = done(tiny("teacher_cache.views=3", "seed=0", ON_CPU, *SETTINGS), tmp_path / "two", store)
    assert not passes
    assert any(isinstance(event, Log) and "no teacher is asked" in event.message for event in second)
    assert weights(tmp_path / "one") == weights(tmp_path / "two")


def test_a_run_stopped_in_the_build_and_in_the_training_ends_the_same(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = tiny("teacher_cache.views=2", "train.epochs=4", "dataset.train_images=400", ON_CPU, *SETTINGS)
    done(preset, tmp_path / "whole", tmp_path / "store")
    shutil.rmtree(teacher_cache())
    folder = tmp_path / "run"
    events = executed(Run(preset, folder, store=tmp_path / "store"), lambda e: isinstance(e, CacheProgress) and e.done == 0)
    assert events[-1].state == "stopped"  # type: ignore[attr-defined]
    assert not any(isinstance(event, PhaseStarted) for event in events)
    again = Run(preset, folder, store=tmp_path / "store", resume=True)
    events = executed(again, lambda event: isinstance(event, Metrics) and event.step >= 14)
    assert [event.step for event in events if isinstance(event, PhaseStarted)] == [0]
    events = executed(Run(preset, folder, store=tmp_path / "store", resume=True))
    assert [event.step > 0 for event in events if isinstance(event, PhaseStarted)] == [True]
    assert weights(folder) == weights(tmp_path / "whole")


def test_too_little_room_is_told_before_a_teacher_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: total._replace(free=1000))
    run = Run(tiny("teacher_cache={views: 1000, storage: disk}"), tmp_path / "run", store=tmp_path / "store")
    result = run.execute()
    assert result.state == "failed"
    assert result.mistake
    assert f"{1000 * 2 * 160 * (40 + 512):,} bytes" in result.message
    assert "fewer views" in result.message
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "store").exists()


def test_a_method_without_teachers_caches_nothing(tmp_path: Path, store: Path) -> None:
    done(tiny("method={name: ce}", "teacher_cache.views=2", *SETTINGS), tmp_path / "run", store)
    assert not teacher_cache().exists()


def test_a_run_of_several_processes_counts_each_ones_memory(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OneOfTwo(Ranks):
        here = 2

    asked = tiny("train.epochs=1", *SETTINGS, "teacher_cache={views: 1, storage: memory}")
    needed = 2 * 160 * (4 * 10 + 2 * 64 * 2 * 2)
    room = int(1.5 * needed / MOST)
    monkeypatch.setattr("engine.teachers.cache_space.memory", lambda: Memory(room, room))
    run = Run(asked, tmp_path / "two", store=store, ranks=OneOfTwo())
    result = run.execute()
    assert result.mistake
    assert "for each of 2 processes" in result.message
    assert not run.dir.path.exists()
    done(asked, tmp_path / "one", store)
