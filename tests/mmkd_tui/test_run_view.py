"""A run as displays see it: what is folded from its events."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from engine.events import Acknowledged, Log, Metrics, PhaseStarted, RunEnded, RunStarted
from mmkd_tui.run_view import RunView

START = RunStarted(
    t=100.0,
    name="quickstart",
    run_dir="runs/one",
    dataset="digits",
    classes=("0", "1"),
    teachers=("a", "b"),
    student="resnet8",
    method="mmkd",
    device="cpu",
    seed=0,
)
PHASE = PhaseStarted(t=130.0, phase="distil", index=0, label="resnet8 by mmkd", epochs=5, steps_per_epoch=10, parameters=1)


def test_the_time_of_a_resumed_run_is_that_in_which_it_was_worked_on() -> None:
    view = RunView()
    view.apply_all([START, PHASE])
    assert view.seconds(140.0) == 40.0
    # Crashed after 30 seconds, taken up the next day, stopped after 20, taken up again.
    view.apply_all([replace(START, t=90_000.0, resumed=True), RunEnded(t=90_020.0, state="stopped")])
    assert view.seconds(99_999.0) == 50.0
    view.apply(replace(START, t=200_000.0, resumed=True))
    assert view.seconds(200_005.0) == 55.0


def test_a_clock_that_is_set_moves_no_events_time(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Log(level="info", message="before").t
    assert abs(before - time.time()) < 3600  # it is the wall clock's when the process began
    for jump in (-1e6, 1e6):
        monkeypatch.setattr(time, "time", lambda jump=jump: before + jump)
        assert 0 <= Log(level="info", message="after").t - before < 3600


def test_a_viewer_whose_clock_is_elsewhere_still_tells_the_time_left() -> None:
    view = RunView()
    view.apply_all([START, PHASE])
    steps = {"phase": "distil", "index": 0, "epoch": 0, "lr": 0.1, "loss": 1.0, "ce": 1.0, "accuracy": 0.5, "steps": 50}
    view.apply(Metrics(t=330.0, step=1, images_per_second=1.0, **steps))  # type: ignore[arg-type]
    phase = view.phase
    assert phase is not None
    assert phase.seconds_left(330.0) == 49 * 200.0
    assert phase.seconds_left(340.0) == 49 * 200.0 - 10
    assert phase.seconds_left(0.0) == 49 * 200.0
    assert phase.seconds_left(1e9) == 49 * 200.0 - 60


def test_a_run_that_has_ended_is_stopping_no_more_when_it_starts_again() -> None:
    view = RunView()
    view.apply_all([START, PHASE, Acknowledged(t=140.0, command="stop", id="1")])
    assert view.stopping
    view.apply(RunEnded(t=141.0, state="stopped"))
    assert not view.stopping  # until its new process tells of itself, which takes seconds
