"""Events become curves: nothing is lost that a chart can show, long runs stay bounded, nonsense is passed over."""

from __future__ import annotations

from typing import Any

from engine.events import EpochEnded, Log, Metrics, PhaseStarted
from mmkd_tui.curves import LIMIT, Curves
from mmkd_tui.fake_client import story

BEGIN = PhaseStarted(phase="distil", index=0, label="s", epochs=10, steps_per_epoch=100, parameters=1)


def metrics(step: int, loss: float | None = 1.0, **more: Any) -> Metrics:
    fields: dict[str, Any] = {"ce": loss, "lr": 0.1, "accuracy": 0.5, "images_per_second": 1.0, "steps": 1000} | more
    return Metrics(phase="distil", index=0, epoch=step // 100, step=step, loss=loss, **fields)


def curves(*events: Any) -> Curves:
    found = Curves()
    found.add([BEGIN, *events])
    return found


def test_x_is_in_epochs() -> None:
    now = curves(metrics(50), metrics(150)).now
    assert now is not None
    assert (now.loss["total"].first_x, now.loss["total"].last_x) == (0.5, 1.5)


def test_a_curve_is_there_only_when_the_method_has_it() -> None:
    now = curves(metrics(1), metrics(2, logit=0.3, hard_accuracy=0.4)).now
    assert now is not None
    assert set(now.loss) == {"total", "CE", "logit"}
    assert set(now.accuracy) == {"train", "hard buffer"}


def test_a_loss_that_is_no_number_is_a_gap_and_an_alarm() -> None:
    now = curves(metrics(10), metrics(20, None)).now
    assert now is not None
    assert now.loss["total"].gaps == 1
    assert now.alarm == 0.2


def test_steps_that_were_left_out_are_an_alarm_and_counted() -> None:
    now = curves(metrics(10), metrics(20, skipped=2), metrics(30, None, skipped=1)).now
    assert now is not None
    assert (now.alarm, now.skipped) == (0.2, 3)


def test_a_number_of_the_meta_step_that_is_not_there_is_no_gap() -> None:
    now = curves(metrics(1, hard_accuracy=0.5, logit_gradient=0.1), metrics(2)).now
    assert now is not None
    assert now.accuracy["hard buffer"].gaps == now.norms["logit"].gaps == 0


def test_a_long_row_of_metrics_keeps_its_lowest_its_highest_and_its_gaps() -> None:
    losses: list[float | None] = [1.0 + (i % 7) / 10 for i in range(2000)]
    losses[777], losses[1500], losses[1700] = 50.0, -50.0, None
    now = curves(*(metrics(i, loss) for i, loss in enumerate(losses))).now
    assert now is not None
    columns = now.loss["total"].sampled(1, 0.0, 20.0)
    assert (columns[0].low, columns[0].high, columns[0].gap) == (-50.0, 50.0, True)
    assert now.loss["total"].appended < 300
    assert now.alarm == 17.0


def test_histories_are_bounded() -> None:
    found = curves()
    for batch in range(2000):
        found.add([metrics(batch * 10 + i) for i in range(10)])
    assert found.now is not None
    assert len(found.now.loss["total"]) <= LIMIT


def test_an_epoch_without_metrics_stands_for_them() -> None:
    ended = EpochEnded(
        phase="distil",
        index=0,
        epoch=0,
        step=100,
        lr=0.1,
        loss=2.0,
        ce=2.0,
        accuracy=0.4,
        measured_accuracy=0.6,
        best_accuracy=0.6,
    )
    now = curves(ended).now
    assert now is not None
    assert now.loss["total"].last == 2.0
    assert now.accuracy["validation"].last == 0.6


def test_a_training_that_is_taken_up_again_goes_on_with_its_curves() -> None:
    found = curves(metrics(10), BEGIN, metrics(11))
    assert len(found.phases) == 1


def test_nonsense_is_passed_over() -> None:
    found = Curves()
    found.add([metrics(1), Log(level="info", message="x"), BEGIN, metrics(5), metrics(6, logit="much")])
    assert found.now is not None
    assert found.now.loss["total"].last_x == 0.06


def test_a_whole_story_has_all_its_trainings() -> None:
    found = Curves()
    found.add(list(story()))
    assert [phase.name for phase in found.phases] == ["teacher"] * 3 + ["alone", "distil"]
    assert len(found.phases[-1].logit_weights) == 3
