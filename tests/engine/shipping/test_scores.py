"""Accuracies, likelihood, calibration and agreement against computations of the tests' own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.images import LEFT_OUT
from engine.shipping.scores import agreement, calibration_error, scored


def by_hand(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Equation 3 of arXiv 1706.04599, one bin after the other, as it is printed."""
    confidence, named = probabilities.max(1), probabilities.argmax(1)
    total = 0.0
    for m in range(1, bins + 1):
        inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        if inside.any():
            gap = abs((named == labels)[inside].mean() - confidence[inside].mean())
            total += inside.sum() / len(labels) * gap
    return float(total)


def test_calibration_of_a_case_that_is_known() -> None:
    # Four images at 0.9, of which two are right; two at 0.6, both right: 4/6 * 0.4 + 2/6 * 0.4.
    probabilities = torch.tensor([[0.9, 0.1]] * 4 + [[0.4, 0.6]] * 2, dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1, 1, 1])
    assert calibration_error(probabilities, labels) == pytest.approx(0.4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.floats(0.1, 8))
def test_calibration_as_the_paper_has_it(seed: int, classes: int, sharpness: float) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(50, classes)) * sharpness
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = generator.integers(0, classes, 50)
    found = calibration_error(torch.from_numpy(probabilities), torch.from_numpy(labels))
    assert found == pytest.approx(by_hand(probabilities, labels), abs=1e-9)


def test_scores_count_only_what_could_be_read() -> None:
    logits = torch.tensor([[3.0, 2, 1, 0, -1, -2], [0, 5, 4, 1, 2, 3], [0, 0, 0, 0, 0, 9], [1, 2, 3, 4, 5, 6]])
    labels = torch.tensor([0, 2, LEFT_OUT, 0])
    found = scored(logits, labels)
    assert found.images == 3
    assert found.top1 == pytest.approx(1 / 3)
    assert found.top5 == pytest.approx(2 / 3)  # the last image's label is the unlikeliest of six
    rows = [(row, int(label)) for row, label in zip(logits.tolist(), labels, strict=True) if label != LEFT_OUT]
    losses = [math.log(sum(math.exp(v) for v in row)) - row[label] for row, label in rows]
    assert found.loss == pytest.approx(sum(losses) / 3)
    assert found.per_class == ((2, 0.5), (0, None), (1, 0.0), (0, None), (0, None), (0, None))
    assert scored(logits[:, :5], torch.tensor([0, 1, 2, 3])).top5 is None


def test_agreement_is_of_classes_named_right_or_wrong() -> None:
    ours, theirs = torch.eye(4)[[0, 1, 2, 3]], torch.eye(4)[[0, 1, 3, 3]]
    labels = torch.tensor([1, 1, 1, LEFT_OUT])
    assert agreement(ours, theirs, labels) == pytest.approx(2 / 3)
