"""A run as displays see it: what is folded from its events."""

from __future__ import annotations

from dataclasses import replace

from engine.events import PhaseStarted, RunEnded, RunStarted
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
