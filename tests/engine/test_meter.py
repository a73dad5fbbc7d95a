"""The averages of a training, and the count of steps that were left out, held against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.meter import Meter
from engine.methods.step import MetaStep, Step, accounted
from engine.tally import Tally

CLASSES, BATCH, STEPS = 4, 6, 5
LEFT_OUT = (1, 2, 4)  # steps that were not finite


@pytest.mark.parametrize("kinds", [(), ("logit",), ("logit", "feature")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_averages_are_those_of_the_steps_that_counted(kinds: tuple[str, ...], dtype: torch.dtype) -> None:
    random, teachers = np.random.default_rng(0), 3 if kinds else 0
    meter, tally = Meter(CLASSES, teachers, torch.device("cpu")), Tally(torch.device("cpu"))
    counted: list[dict[str, np.ndarray]] = []
    metas: list[np.ndarray] = []
    for number in range(STEPS):
        losses = random.random(4)
        logits, labels = random.standard_normal((BATCH, CLASSES)), random.integers(CLASSES, size=BATCH)
        weights = {kind: random.dirichlet(np.ones(teachers), BATCH) for kind in kinds}
        given = {f"{kind}_weights": torch.tensor(value, dtype=dtype) for kind, value in weights.items()}
        given |= {kind: torch.tensor(losses[2 + place], dtype=dtype) for place, kind in enumerate(kinds)}
        finite = torch.tensor([number not in LEFT_OUT, True, number != LEFT_OUT[0]])
        loss, ce = (torch.tensor(value, dtype=dtype) for value in losses[:2])
        step = Step(loss=loss, ce=ce, logits=torch.tensor(logits, dtype=dtype), **given)
        meta = random.random(4) if number % 2 else None
        told = None if meta is None else MetaStep(*torch.tensor(meta, dtype=dtype))
        step = accounted(step, finite, torch.tensor(labels), teachers)
        meter.add(step, torch.tensor(labels), told)
        tally.add(step, told)
        if number not in LEFT_OUT:
            counted.append({"losses": losses, "right": logits.argmax(1) == labels, "labels": labels} | weights)
        metas += [] if meta is None else [meta]
    losses = np.mean([one["losses"] for one in counted], 0)
    expected = {"loss": losses[0], "ce": losses[1], "accuracy": np.mean([one["right"] for one in counted])}
    names = ("outer_loss", "hard_accuracy", "logit_gradient", "feature_gradient")
    expected |= dict(zip(names, np.mean(metas, 0), strict=True))
    for place, kind in enumerate(kinds):
        every = np.concatenate([one[kind] for one in counted])
        expected |= {kind: losses[2 + place], f"{kind}_weights": every.mean(0), f"{kind}_spread": every.std(0)}
    close = {"rel": 1e-5, "abs": 1e-7} if dtype is torch.float32 else {"rel": 1e-9}
    recent, epoch = meter.take_recent(), meter.take_epoch()
    for name, value in expected.items():
        assert recent[name] == pytest.approx(value, **close), name
        assert epoch[name] == pytest.approx(value, **close), name
    labels = np.concatenate([one["labels"] for one in counted])
    for kind in kinds:
        every = np.concatenate([one[kind] for one in counted])
        means = [every[labels == k].mean(0) if (labels == k).any() else np.zeros(teachers) for k in range(CLASSES)]
        assert np.array(epoch[f"{kind}_weights_by_class"]) == pytest.approx(np.array(means), abs=6e-5)
    left = tally.take()
    assert (left.steps, left.in_a_row, left.parts) == (3, 1, ("loss", "normalisation statistics"))
