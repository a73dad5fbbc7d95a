"""A whole run on pictures in files: broken ones, a killed decoding process, a resume and the teacher cache change nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from support import picture_sets as sets
from torch import Tensor

from engine.data.decoders import _Process
from engine.events import EpochEnded, Event, Log
from engine.pictures import Decoded, Job
from engine.preset import Preset, TeacherCachePart
from engine.preset_yaml import parse_preset
from engine.result import Result
from engine.run import Run

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


def test_what_is_missing_ends_a_run_before_it_begins(tmp_path: Path) -> None:
    result, _ = run(preset(tmp_path / "none", 0), tmp_path, "run")
    assert (result.state, result.mistake) == ("failed", True)
    assert "there is no folder" in result.message
    assert not (tmp_path / "run").exists()
