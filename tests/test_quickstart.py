"""What README promises of `mmkd run quickstart`: the feature weights learn (in seconds), the student gains (in minutes)."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from support.presets import DEVICE, tiny

from engine import Run, find_preset, load_preset
from engine.events import EpochEnded, Event


def distillation(events: list[Event]) -> list[EpochEnded]:
    return [e for e in events if isinstance(e, EpochEnded) and e.phase == "distil"]


def assert_learned(epochs: list[EpochEnded]) -> None:
    """Neither uniform nor one-hot, and taught by a gradient that was there."""
    assert all(e.feature_gradient > 0 for e in epochs if e.feature_gradient is not None)
    assert sum(e.feature_gradient is not None for e in epochs) > len(epochs) / 2
    assert all(max(e.feature_weights) < 0.98 for e in epochs)
    assert max(epochs[-1].feature_weights) - min(epochs[-1].feature_weights) > 0.02
    for course in zip(*(e.feature_weights for e in epochs), strict=True):
        assert max(course) - min(course) > 0.02


def test_feature_weights_learn(tmp_path: Path) -> None:
    teachers = "teachers=[{arch: resnet8, train: {epochs: 6}}, {arch: resnet14, train: {epochs: 6}}]"
    run = Run(
        tiny(
            "dataset.train_images=400", teachers, "train={epochs: 10}", "method.meta={every: 2}", "evaluate.student_alone=false"
        ),
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
        run = Run(load_preset(find_preset("quickstart"), [f"seed={seed}", f"hardware.device={DEVICE}"]), tmp_path / str(seed))
        events: list[Event] = []
        run.subscribe(events.append)
        results.append(run.execute())
        assert results[-1].state == "done", results[-1].message
        assert_learned(distillation(events))
    student = statistics.mean(r.student_accuracy for r in results)
    alone = statistics.mean(r.student_alone_accuracy for r in results)
    assert student >= 0.96
    assert student > alone
