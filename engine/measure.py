"""Measuring a classifier on a split: accuracy and loss, in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.data import AnySplit
from engine.data.images import LEFT_OUT
from engine.models import Classifier
from engine.out_of_memory import OutOfMemoryError, told


@dataclass(frozen=True, slots=True)
class Measurement:
    """Top-1 accuracy in 0..1 and mean cross entropy."""

    accuracy: float
    loss: float


@torch.no_grad()
def logits_of(model: Classifier, split: AnySplit, batch_size: int, poll: Callable[[], None] | None = None) -> Tensor:
    """[N, C], in the split's order, in float32 whatever the training's precision.

    The model's mode is put back; `poll` is called before each pass and may raise. OutOfMemoryError where a pass is too large.
    """
    training = model.training
    model.eval()
    rows: list[Tensor] = []
    why = ""
    try:
        for batch in split.in_order(batch_size):
            if poll is not None:
                poll()
            rows.append(model(batch.images).logits.float())
    except torch.OutOfMemoryError as error:
        why = told("a measurement", "evaluate.batch_size", batch_size, error)
    finally:
        model.train(training)
    if why:  # and with the error, all that its frames held is gone
        raise OutOfMemoryError(why)
    return torch.cat(rows)


def measured(logits: Tensor, labels: Tensor) -> Measurement:
    """Logits [N, C] against labels [N]; images with the label LEFT_OUT do not count."""
    right = (logits.argmax(1) == labels).sum().item()
    counted = int((labels != LEFT_OUT).sum())
    return Measurement(right / counted, F.cross_entropy(logits, labels, ignore_index=LEFT_OUT).item())


def ensemble(logits: Sequence[Tensor]) -> Tensor:
    """The plain average of several classifiers: K times [N, C] logits -> [N, C] log of the mean probability."""
    return torch.stack([row.softmax(1) for row in logits]).mean(0).clamp_min(1e-38).log()
