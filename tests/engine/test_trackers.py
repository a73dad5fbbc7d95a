"""Trackers show what the events say, go on with their run after a resume, and whatever one does costs a run nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.presets import tiny

from engine import Run
from engine.events import Averages, EpochEnded, Event, Log, Metrics
from engine.run import Preset
from engine.trackers import Beginning, backends, feed, refuse_missing
from engine.trackers.scalars import names_of, scalars

SHORT = ("train.epochs=2", "evaluate.student_alone=false", "teachers=[]", "method={name: ce}")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine must not decide what a tracker was given."""
    monkeypatch.setattr(feed, "PATIENCE", 120.0)


def preset(*trackers: str, more: tuple[str, ...] = SHORT) -> Preset:
    return tiny(f"trackers=[{', '.join(trackers)}]", *more)


def tracked(folder: Path, *trackers: str, more: tuple[str, ...] = SHORT) -> tuple[Run, list[Event]]:
    run = Run(preset(*trackers, more=more), folder)
    events: list[Event] = []
    run.subscribe(events.append)
    assert run.execute().state == "done"
    return run, events


def measured(events: list[Event]) -> list[float]:
    return [e.measured_accuracy for e in events if isinstance(e, EpochEnded) and e.phase == "distil" and e.measured_accuracy]


class Kept:
    """A tracker that keeps what it is given."""

    def __init__(self, begin: Beginning) -> None:
        self.begin, self.points, self.end = begin, [], None  # type: ignore[var-annotated]
        self.id = begin.id or "number-1"

    def log(self, values: Mapping[str, float], step: int, t: float) -> None:
        self.points.append((step, dict(values)))

    def finish(self, summary: Mapping[str, float], state: str) -> None:
        self.end = (dict(summary), state)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Kept]:
    made: list[Kept] = []

    def opened(begin: Beginning) -> Kept:
        made.append(Kept(begin))
        return made[-1]

    monkeypatch.setitem(backends.OPENERS, "tensorboard", opened)
    monkeypatch.setattr("engine.run.refuse_missing", lambda names: None)
    return made


def test_what_is_shown(kept: list[Kept], tmp_path: Path) -> None:
    run, events = tracked(tmp_path / "run", "tensorboard", more=("evaluate.student_alone=false",))
    (one,) = kept
    assert one.begin.config["train.epochs"] == 3
    assert one.begin.config["teachers.1.arch"] == "resnet14"
    at = {step: values for step, values in one.points if "distil/epoch/loss" in values}
    ends = [e for e in events if isinstance(e, EpochEnded) and e.phase == "distil"]
    assert [at[e.step]["distil/epoch/loss"] for e in ends] == [e.loss for e in ends]
    last = at[ends[-1].step]
    assert last["distil/measured_accuracy"] == ends[-1].measured_accuracy
    assert last["distil/epoch/lr"] == ends[-1].lr
    for number, teacher in enumerate(("resnet8-s0", "resnet14-s1")):
        assert last[f"distil/epoch/logit_weights/{teacher}"] == ends[-1].logit_weights[number]
        assert last[f"distil/epoch/feature_spread/{teacher}"] == ends[-1].feature_spread[number]
    assert last["distil/epoch/logit_gradient"] > 0
    assert any("distil/images_per_second" in values for _, values in one.points)
    assert any("teacher-1-resnet14-s1/loss" in values for _, values in one.points)
    assert run.result is not None
    assert one.end is not None
    assert one.end[0]["result/student_accuracy"] == run.result.student_accuracy
    assert one.end[1] == "done"
    assert json.loads((tmp_path / "run" / "trackers.json").read_text()) == {"tensorboard": "number-1"}


def test_a_resumed_run_goes_on_under_the_same_id(kept: list[Kept], tmp_path: Path) -> None:
    more = (*SHORT, "train.epochs=3", "checkpoints={every: null}")
    first = Run(preset("tensorboard", more=more), tmp_path / "run")
    first.subscribe(lambda event: first.control.stop() if isinstance(event, EpochEnded) else None)
    assert first.execute().state == "stopped"
    second = Run(preset("tensorboard", more=more), tmp_path / "run", resume=True)
    assert second.execute().state == "done"
    assert [one.begin.id for one in kept] == [None, "number-1"]
    assert [one.end[1] for one in kept if one.end] == ["stopped", "done"]
    assert kept[1].points[0][0] > kept[0].points[0][0]  # it goes on at the step


def warnings_of(events: list[Event]) -> list[str]:
    return [
        event.message for event in events if isinstance(event, Log) and event.level == "warning" and "tracker" in event.message
    ]


@pytest.mark.parametrize("where", ["open", "log", "finish"])
def test_one_that_raises_is_told_once_and_left(where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[str] = []

    class Broken(Kept):
        def __init__(self, begin: Beginning) -> None:
            super().__init__(begin)
            self.fail("open")

        def fail(self, now: str) -> None:
            calls.append(now)
            if now == where:
                raise SystemExit("no network\x1b[2J") if where == "log" else OSError(28, "No space left on device")

        def log(self, values: Mapping[str, float], step: int, t: float) -> None:
            self.fail("log")

        def finish(self, summary: Mapping[str, float], state: str) -> None:
            self.fail("finish")

    monkeypatch.setitem(backends.OPENERS, "tensorboard", Broken)
    monkeypatch.setattr("engine.run.refuse_missing", lambda names: None)
    _, events = tracked(tmp_path / "run", "tensorboard")
    (told,) = warnings_of(events)
    assert told.startswith("tracker tensorboard is left: ")
    assert "\x1b" not in told
    assert calls.count(where) == 1
    assert calls[-1] == where


def test_one_that_blocks_holds_nothing_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free, entered = threading.Event(), threading.Event()

    class Slow(Kept):
        def log(self, values: Mapping[str, float], step: int, t: float) -> None:
            entered.set()
            free.wait()

    monkeypatch.setitem(backends.OPENERS, "tensorboard", Slow)
    monkeypatch.setattr("engine.run.refuse_missing", lambda names: None)
    monkeypatch.setattr(feed, "MOST", 2)
    monkeypatch.setattr(feed, "PATIENCE", 0.2)
    try:
        _, events = tracked(tmp_path / "run", "tensorboard", more=(*SHORT, "train.epochs=6"))
    finally:
        free.set()
    assert entered.is_set()
    assert [line.partition(" tensorboard ")[2][:12] for line in warnings_of(events)] == ["is slower th", "did not take"]
    assert len(measured(events)) == 6


def test_a_missing_package_is_told_before_anything_is_done(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = Run(preset("wandb"), tmp_path / "run").execute()
    assert (result.state, result.mistake) == ("failed", True)
    assert result.message == "trackers: wandb is not installed; pip install 'mmkd-tui[wandb]' brings it, or leave it out"
    assert not (tmp_path / "run").exists()
    refuse_missing(())


def test_names_and_numbers() -> None:
    assert names_of(["a:b", "a/b", "vgg (2)"]) == ("0-a_b", "1-a_b", "vgg _2_")
    nothing = Metrics(phase="distil", index=0, epoch=0, step=1, lr=0.1, loss=None, ce=float("nan"), accuracy=0.5, steps=9,
                      images_per_second=3.0, logit_weights=(0.25, 0.75))  # fmt: skip
    assert isinstance(nothing, Averages)
    assert scalars(nothing, ["a", "b"]) == {
        "distil/lr": 0.1, "distil/accuracy": 0.5, "distil/images_per_second": 3.0,
        "distil/logit_weights/a": 0.25, "distil/logit_weights/b": 0.75,
    }  # fmt: skip


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, events = tracked(tmp_path / "run", "tensorboard")
    assert not warnings_of(events)
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    steps = [e.step for e in events if isinstance(e, EpochEnded)]
    points = found.Scalars("distil/measured_accuracy")
    assert [point.step for point in points] == steps
    assert [point.value for point in points] == pytest.approx(measured(events))
    assert run.result is not None
    assert found.Scalars("result/student_accuracy")[0].value == pytest.approx(run.result.student_accuracy)


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    run, events = tracked(tmp_path / "run", "mlflow")
    assert not warnings_of(events)
    id = json.loads((tmp_path / "run" / "trackers.json").read_text())["mlflow"]
    client = mlflow.MlflowClient()
    found = client.get_run(id)
    assert found.info.status == "FINISHED"
    assert found.data.params["train.epochs"] == "2"
    assert run.result is not None
    assert found.data.metrics["result/student_accuracy"] == run.result.student_accuracy
    assert [point.value for point in client.get_metric_history(id, "distil/measured_accuracy")] == measured(events)
    again = backends.Mlflow(Beginning(tmp_path, "run", {}, id))
    assert again.id == id
    assert client.get_run(id).info.status == "RUNNING"


TOGETHER = """
import os
from pathlib import Path
import mlflow, sqlalchemy
from engine.trackers import Beginning
from engine.trackers.backends import Mlflow
def open_one(number):
    if (process := os.fork()) == 0:
        Mlflow(Beginning(Path(), f"run-{number}", {"a": 1}, None))
        os._exit(0)
    return process
print([os.waitpid(process, 0)[1] for process in [open_one(number) for number in range(3)]])
"""


def test_mlflow_takes_runs_that_begin_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    ended = subprocess.run([sys.executable, "-c", TOGETHER], capture_output=True, text=True, timeout=120)
    assert ended.stdout == "[0, 0, 0]\n", ended.stderr
    client = mlflow.MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("mmkd").experiment_id])
    assert {run.info.run_name for run in runs} == {"run-0", "run-1", "run-2"}


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    _, events = tracked(tmp_path / "run", "wandb")
    assert not warnings_of(events)
    id = json.loads((tmp_path / "run" / "trackers.json").read_text())["wandb"]
    (file,) = (tmp_path / "run" / "wandb").glob(f"offline-run-*-{id}/run-{id}.wandb")
    content = file.read_bytes()
    for name in (b"distil/measured_accuracy", b"result/student_accuracy", b"train.epochs"):
        assert name in content


def test_wandb_without_a_key_does_not_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    _, events = tracked(tmp_path / "run", "wandb")
    (told,) = warnings_of(events)
    assert "wandb login" in told


def test_trackio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    _, events = tracked(tmp_path / "run", "trackio")
    assert not warnings_of(events)
    id = json.loads((tmp_path / "run" / "trackers.json").read_text())["trackio"]
    rows: list[dict[str, Any]] = SQLiteStorage.get_logs("mmkd", id)
    assert [row["distil/measured_accuracy"] for row in rows if "distil/measured_accuracy" in row] == measured(events)


def test_each_run_has_an_id_of_its_own_in_trackio_however_long_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    stand_in = SimpleNamespace(init=lambda name, **_: opened.append(name))
    monkeypatch.setitem(sys.modules, "trackio", stand_in)  # type: ignore[arg-type]
    name = "cifar100-resnet32x4-shufflenetv1-mmkd-with-equal-feature-weights"
    made = [backends.Trackio(Beginning(tmp_path, f"{name}-s{seed}", {}, None)) for seed in range(3)]
    assert len({one.id for one in made}) == 3
    assert opened == [one.id for one in made]
    assert all(feed._ID.fullmatch(id) and id.startswith("cifar100-resnet32x4") for id in opened)
    assert backends.Trackio(Beginning(tmp_path, name, {}, "known-by-this")).id == "known-by-this"


def stopped_and_gone_on_with(folder: Path, tracker: str) -> tuple[list[Event], str]:
    """Both processes' events, and the tracker's id of the run."""
    more, events = (*SHORT, "train.epochs=3", "checkpoints={every: null}"), []
    for resume, state in ((False, "stopped"), (True, "done")):
        run = Run(preset(tracker, more=more), folder, resume=resume)
        run.subscribe(events.append)
        if not resume:
            run.subscribe(lambda event, run=run: run.control.stop() if isinstance(event, EpochEnded) else None)  # type: ignore[misc]
        assert run.execute().state == state
    assert not warnings_of(events)
    return events, json.loads((folder / "trackers.json").read_text())[tracker]


def test_wandb_goes_on_under_the_same_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    _, id = stopped_and_gone_on_with(tmp_path / "run", "wandb")
    files = list((tmp_path / "run" / "wandb").glob(f"offline-run-*-{id}/run-{id}.wandb"))
    assert len(files) == len(list((tmp_path / "run" / "wandb").glob("offline-run-*"))) == 2  # `wandb sync` makes them one run


def test_trackio_goes_on_in_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    events, id = stopped_and_gone_on_with(tmp_path / "run", "trackio")
    rows: list[dict[str, Any]] = SQLiteStorage.get_logs("mmkd", id)
    assert [row["distil/measured_accuracy"] for row in rows if "distil/measured_accuracy" in row] == measured(events)
