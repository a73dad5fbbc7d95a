"""What README promises of `mmkd run quickstart`. The whole of it takes minutes; the feature weights' learning is seen in seconds."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from engine import Run, find_preset, load_preset
from engine.events import EpochEnded, Event
from support.presets import tiny


def distillation(events: list[Event]) -> list[EpochEnded]:
    return [e for e in events if isinstance(e, EpochEnded) and e.phase == "distil"]


def assert_learned(epochs: list[EpochEnded]) -> None:
    """Neither uniform nor one-hot, and taught by a gradient that was there."""
    assert all(e.feature_gradient > 0 for e in epochs if e.feature_gradient is not None)
    assert sum(e.feature_gradient is not None for e in epochs) > len(epochs) / 2
    last = epochs[-1].feature_weights
    assert max(last) < 0.98
    assert max(last) - min(last) > 0.02
    moved = max(abs(b - a) for a, b in zip(epochs[0].feature_weights, last, strict=True))
    assert moved > 0.01


def test_feature_weights_learn(tmp_path: Path) -> None:
    teachers = "teachers=[{arch: resnet8, train: {epochs: 6}}, {arch: resnet14, train: {epochs: 6}}]"
    run = Run(
        tiny("dataset.train_images=600", teachers, "train={epochs: 8}", "method.meta={every: 2}", "evaluate.student_alone=false"),
        tmp_path / "run",
    )
    events: list[Event] = []
    run.subscribe(events.append)
    assert run.execute().state == "done"
    assert_learned(distillation(events))


@pytest.mark.slow
def test_quickstart_beats_the_student_alone_over_five_seeds(tmp_path: Path) -> None:
    results = []
    for seed in range(5):
        run = Run(load_preset(find_preset("quickstart"), [f"seed={seed}"]), tmp_path / str(seed))
        events: list[Event] = []
        run.subscribe(events.append)
        results.append(run.execute())
        assert results[-1].state == "done", results[-1].message
        assert_learned(distillation(events))
    student = statistics.mean(r.student_accuracy for r in results)
    alone = statistics.mean(r.student_alone_accuracy for r in results)
    assert student >= 0.96
    assert student > alone
