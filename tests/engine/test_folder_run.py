"""A whole run on pictures in files: broken ones, a killed decoding process, a resume and the teacher cache change nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from support import picture_sets as sets
from support.away import PAUSES, bring_back, take_away
from torch import Tensor

from engine.data import decoders, load_images
from engine.data.decoders import _Process
from engine.data.file_split import FileSplit
from engine.events import CacheProgress, EpochEnded, Event, Log
from engine.pictures import Decoded, Job
from engine.preset import Preset, TeacherCachePart
from engine.preset_yaml import parse_preset
from engine.result import Result
from engine.run import Run
from engine.trainer import Trainer

YAML = """
name: pictures
dataset: {{name: imagefolder, path: {path}, size: 64, validation_fraction: 0.2}}
teachers:
  - {{arch: resnet8, seed: 0, train: {{epochs: 1, batch_size: 8}}}}
  - {{arch: resnet8, seed: 1, train: {{epochs: 1, batch_size: 8}}}}
student: {{arch: resnet8}}
method: {{name: {method}}}
train: {{epochs: 1, batch_size: 8}}
evaluate: {{student_alone: false, batch_size: 8}}
hardware: {{device: cpu, precision: fp32, compile: "off", threads: 1, workers: {workers}}}
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    sets.pictures(path, {"train": 15, "test": 4}, width=70, height=66)
    return path


def preset(path: Path, workers: int, method: str = "mmkd") -> Preset:
    text = YAML.format(path=path, workers=workers, method=method)
    if method == "mmkd":
        text = text.replace("{name: mmkd}", "{name: mmkd, meta: {every: 2, buffer_size: 8}}")
    return parse_preset(text, "test")


def run(asked: Preset, folder: Path, name: str, **options: object) -> tuple[Result, list[Event]]:
    events: list[Event] = []
    work = Run(asked, folder / name, store=folder / f"store-{name}", **options)  # type: ignore[arg-type]
    work.subscribe(events.append)
    return work.execute(), events


def epochs(events: list[Event]) -> list[Event]:
    return [replace(event, t=0.0) for event in events if isinstance(event, EpochEnded)]


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def plain(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, list[Event], dict[str, Tensor]]:
    """Decoded by the training itself."""
    folder = tmp_path_factory.mktemp("plain")
    result, events = run(preset(pictures, 0), folder, "run")
    assert result.state == "done", result.message
    return result, events, load_file(folder / "run" / "student.safetensors")


def test_a_run_tells_what_it_found_and_keeps_what_using_the_student_takes(
    plain: tuple[Result, list[Event], dict[str, Tensor]],
) -> None:
    result, events, student = plain
    assert result.student_accuracy is not None
    said = [event.message for event in events if isinstance(event, Log)]
    assert any("30 pictures to train on, 8 to test on" in line for line in said)
    with safe_open(Path(result.run_dir) / "student.safetensors", "pt") as file:
        facts = file.metadata()
    assert (facts["size"], json.loads(facts["classes"])) == ("64", ["class-0", "class-1"])
    assert all(torch.isfinite(value).all() for value in student.values() if value.is_floating_point())


def test_a_killed_decoding_process_changes_nothing(
    plain: tuple[Result, list[Event], dict[str, Tensor]], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, killed = _Process.ask, []

    def kill(pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def murderous(self: _Process, job: Job) -> Decoded:
        if self.pid is not None and self.pid not in killed and len(killed) < 3:
            killed.append(self.pid)
            threading.Timer(0.002 * len(killed), kill, (self.pid,)).start()  # in whatever it is doing then
        return ask(self, job)

    monkeypatch.setattr(_Process, "ask", murderous)
    result, events = run(preset(pictures, 2), tmp_path, "run")
    assert result.state == "done", result.message
    assert killed
    assert any("died" in event.message for event in events if isinstance(event, Log))
    assert epochs(events) == epochs(plain[1])
    assert_same(load_file(tmp_path / "run" / "student.safetensors"), plain[2])


def test_a_stopped_run_goes_on_in_mid_epoch(
    plain: tuple[Result, list[Event], dict[str, Tensor]], pictures: Path, tmp_path: Path
) -> None:
    asked, events, polls = preset(pictures, 0), [], 0
    work = Run(asked, tmp_path / "run", store=tmp_path / "store")
    work.subscribe(events.append)
    poll = work._poll

    def stopping(trainer: object) -> None:
        nonlocal polls
        polls += trainer.phase.name == "distil"  # type: ignore[attr-defined]
        if polls == 2:
            work.control.stop()
        poll(trainer)  # type: ignore[arg-type]

    work._poll = stopping  # type: ignore[method-assign]
    assert work.execute().state == "stopped"
    more = Run(asked, tmp_path / "run", store=tmp_path / "store", resume=True)
    more.subscribe(events.append)
    result = more.execute()
    assert result.state == "done", result.message
    assert epochs(events)[-1] == epochs(plain[1])[-1]
    assert_same(load_file(tmp_path / "run" / "student.safetensors"), plain[2])


def test_broken_pictures_are_named_and_do_not_end_a_run(pictures: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    sets.pictures(own, {"train": 15, "test": 4}, width=70, height=66)
    bad = [own / "train" / "class-0" / "003.jpg", own / "test" / "class-1" / "002.jpg"]
    bad[0].write_bytes(bad[0].read_bytes()[:500])
    bad[1].write_bytes(sets.bomb())
    result, events = run(preset(own, 1, "aver"), tmp_path, "run")
    assert result.state == "done", result.message
    said = [event.message for event in events if isinstance(event, Log) and event.level == "warning"]
    for path in bad:
        assert sum(str(path) in line for line in said) == 1
    assert result.student_accuracy is not None
    assert (result.student_accuracy * 7) == pytest.approx(round(result.student_accuracy * 7))  # one of eight is left out


def test_the_teacher_cache_answers_for_pictures_in_files(pictures: Path, tmp_path: Path) -> None:
    cached = preset(pictures, 0, "aver").model_copy(update={"teacher_cache": TeacherCachePart(views=2, storage="disk")})
    first, events = run(cached, tmp_path, "one", cache=tmp_path / "cache")
    assert first.state == "done", first.message
    assert any("teacher cache: whole" in event.message for event in events if isinstance(event, Log))
    second, events = run(cached, tmp_path, "two", cache=tmp_path / "cache")
    assert any("all of it was there" in event.message for event in events if isinstance(event, Log))
    assert first.student_accuracy == second.student_accuracy


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """As `pictures`, to be changed."""
    path = tmp_path / "own"
    sets.pictures(path, {"train": 15, "test": 4}, width=70, height=66)
    return path


def said_of(result: Result, path: Path) -> bool:
    """Whether the run has ended by a picture somewhere below `path`, in one sentence."""
    known = (
        result.message.startswith(str(path)) and "cannot be read now: Input/output error; go on by mmkd resume" in result.message
    )
    return known and (result.state, result.mistake) == ("failed", False)


@pytest.mark.parametrize(("what", "workers", "at"), [("train", 0, 1), ("train", 1, None), ("test", 0, 3)])
def test_pictures_that_cannot_be_read_now_end_a_run_that_goes_on_as_if_nothing_had_been(
    what: str,
    workers: int,
    at: int | None,
    plain: tuple[Result, list[Event], dict[str, Tensor]],
    own: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.pictures.PAUSES", PAUSES)
    monkeypatch.setattr(decoders, "SERVER", "support.away")
    asked, gone, polls = preset(own, workers), sorted((own / what).rglob("*.jpg")), 0
    work = Run(asked, tmp_path / "run", store=tmp_path / "store")
    events: list[Event] = []
    work.subscribe(events.append)
    poll = work._poll

    def losing(trainer: Trainer) -> None:
        nonlocal polls
        poll(trainer)
        polls += trainer.phase.name == "distil"
        if polls == 2:
            polls += 1
            for path in gone:
                take_away(path)

    work._poll = losing  # type: ignore[method-assign]
    result = work.execute()
    assert said_of(result, own / what), result.message
    name = result.message.rpartition("what was trained is in checkpoints/")[2]
    assert name in [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert at is None or name == f"distil-0-step-{at:06d}"
    assert not any("takes its place" in event.message for event in events if isinstance(event, Log))
    for path in gone:
        bring_back(path)
    again = Run(asked, tmp_path / "run", store=tmp_path / "store", resume=True)
    again.subscribe(events.append)
    result = again.execute()
    assert result.state == "done", result.message
    assert epochs(events)[-1] == epochs(plain[1])[-1]
    assert result.student_accuracy == plain[0].student_accuracy
    assert_same(load_file(tmp_path / "run" / "student.safetensors"), plain[2])


def of_training(path: Path) -> Path:
    """A picture that `preset` trains on."""
    split = load_images(preset(path, 0).dataset, path, torch.device("cpu"), 0).train
    assert isinstance(split, FileSplit)
    return path / split.listing.paths[3]


def cached_run(
    asked: Preset, folder: Path, name: str, at_first: Callable[[], object], **options: object
) -> tuple[Result, list[Event]]:
    """Calls `at_first` when the cache is about to be computed."""
    events: list[Event] = []
    work = Run(asked, folder / name, store=folder / "store", cache=folder / "cache", **options)  # type: ignore[arg-type]
    work.subscribe(events.append)
    todo = [at_first]
    work.subscribe(lambda event: todo.pop()() if isinstance(event, CacheProgress) and todo else None)  # type: ignore[func-returns-value]
    return work.execute(), events


def rows(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted((folder / "cache").rglob("*.rows"))}


@pytest.mark.parametrize("workers", [0, 1])
def test_the_teacher_cache_holds_nothing_of_a_picture_that_cannot_be_read_now(
    workers: int, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.pictures.PAUSES", PAUSES)
    monkeypatch.setattr(decoders, "SERVER", "support.away")
    picture = of_training(own)
    asked = preset(own, workers, "aver").model_copy(update={"teacher_cache": TeacherCachePart(views=1, storage="disk")})
    result, _ = cached_run(asked, tmp_path, "run", lambda: take_away(picture))
    assert said_of(result, picture), result.message
    assert rows(tmp_path) == {}
    bring_back(picture)
    result, events = cached_run(asked, tmp_path, "run", lambda: None, resume=True)
    assert result.state == "done", result.message
    assert not any("cannot be read" in event.message for event in events if isinstance(event, Log))
    (tmp_path / "cache").rename(tmp_path / "first")
    cached_run(asked, tmp_path, "another", lambda: None)
    expected = rows(tmp_path)
    (tmp_path / "cache").rename(tmp_path / "second")
    (tmp_path / "first").rename(tmp_path / "cache")
    assert len(expected) == 2
    assert rows(tmp_path) == expected


def test_what_was_broken_when_the_teacher_cache_was_computed_has_no_other_pictures_rows(own: Path, tmp_path: Path) -> None:
    picture = of_training(own)
    asked = preset(own, 0, "aver").model_copy(update={"teacher_cache": TeacherCachePart(views=1, storage="disk")})
    one, _ = cached_run(asked, tmp_path, "one", lambda: picture.rename(tmp_path / "moved"))
    assert one.state == "done", one.message
    (tmp_path / "moved").rename(picture)
    before = rows(tmp_path)
    assert all(np.isnan(np.frombuffer(content, np.float32).reshape(24, -1)[3]).all() for content in before.values())
    two, events = cached_run(asked, tmp_path, "two", lambda: None)
    assert two.state == "done", two.message
    assert rows(tmp_path) == before
    said = [event.message for event in events if isinstance(event, Log)]
    assert any("all of it was there" in line for line in said)
    (line,) = (line for line in said if str(picture) in line)
    assert "was broken when the teacher cache was computed" in line
    assert "another picture takes its place" in line
    students = [load_file(tmp_path / name / "student.safetensors") for name in ("one", "two")]
    assert_same(*students)


def test_what_is_missing_ends_a_run_before_it_begins(tmp_path: Path) -> None:
    result, _ = run(preset(tmp_path / "none", 0), tmp_path, "run")
    assert (result.state, result.mistake) == ("failed", True)
    assert "there is no folder" in result.message
    assert not (tmp_path / "run").exists()
