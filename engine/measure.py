"""Measuring a classifier on a split: accuracy and loss, in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.data import AnySplit
from engine.data.images import LEFT_OUT, WHOLE, Share
from engine.models import Classifier
from engine.models.interface import Output
from engine.models.panel import TeacherPanel
from engine.out_of_memory import OutOfMemoryError, lacks_memory, told
from engine.ranks import ALONE, Ranks

PIECE = 8192  # images whose losses are computed at a time


@dataclass(frozen=True, slots=True)
class Measurement:
    """Top-1 accuracy in 0..1 and mean cross entropy."""

    accuracy: float
    loss: float


def logits_of(
    model: Classifier, split: AnySplit, batch_size: int, poll: Callable[[], None] | None = None, ranks: Ranks = ALONE
) -> Tensor:
    """[N, C], in the split's order, in float32 whatever the training's precision; the same on every rank.

    The model's mode is put back; `poll` is called before each pass and may raise. OutOfMemoryError where a pass is too large.
    """
    training = model.training
    model.eval()
    try:
        return _logits(model, split, batch_size, poll, ranks)
    finally:
        model.train(training)


def logits_of_shared(
    panel: TeacherPanel, split: AnySplit, batch_size: int, poll: Callable[[], None] | None, ranks: Ranks
) -> Tensor:
    """As `logits_of`, of the one teacher of a panel whose parts lie on all ranks: each asks it as often as the others."""
    return _logits(lambda images: panel(images)[0], split, batch_size, poll, ranks, equally=True)


@torch.no_grad()
def _logits(
    ask: Callable[[Tensor], Output],
    split: AnySplit,
    batch_size: int,
    poll: Callable[[], None] | None,
    ranks: Ranks,
    *,
    equally: bool = False,
) -> Tensor:
    batches = -(-len(split) // batch_size)
    share = Share(ranks.rank, ranks.size) if batches >= ranks.size else WHOLE
    rounds = -(-batches // share.of)
    found: Tensor | None = None  # made at once, since of many images and classes there is no room for two
    done = 0
    why = ""
    try:
        for batch in split.in_order(batch_size, share):
            if poll is not None:
                poll()
            logits = ask(batch.images).logits
            if found is None:
                found = logits.new_zeros((rounds * batch_size, logits.shape[1]), dtype=torch.float32)
            found[done : done + len(logits)] = logits
            done += len(logits)
        if equally and done <= (rounds - 1) * batch_size:
            ask(batch.images)  # for the others
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        why = told("a measurement", "evaluate.batch_size", batch_size, error)
    if why:  # and with the error, all that its frames held is gone
        raise OutOfMemoryError(why)
    assert found is not None, "a split has images"
    return found[:done] if share.of == 1 else _joined(found, split, batch_size, rounds, ranks)


def _joined(own: Tensor, split: AnySplit, batch_size: int, rounds: int, ranks: Ranks) -> Tensor:
    """The logits of all ranks' batches, and on every rank the mark of the images that one of them could not read."""
    turns = torch.stack(ranks.gathered(own.view(rounds, batch_size, -1)), 1)
    (broken,) = ranks.total([(split.labels == LEFT_OUT).long()])
    split.labels[broken > 0] = LEFT_OUT
    return turns.flatten(0, 2)[: len(split)]


def whole_labels(labels: Tensor) -> list[int]:
    """The labels of a split's images without those that turned out to be broken."""
    found: list[int] = labels[labels != LEFT_OUT].tolist()
    return found


def measured(logits: Tensor, labels: Tensor) -> Measurement:
    """Logits [N, C] against labels [N]; images with the label LEFT_OUT do not count."""
    right = (logits.argmax(1) == labels).sum().item()
    counted = int((labels != LEFT_OUT).sum())
    # Cross entropy takes as much memory again as what it is given.
    pieces = zip(torch.split(logits, PIECE), torch.split(labels, PIECE), strict=True)
    losses = [F.cross_entropy(*piece, ignore_index=LEFT_OUT, reduction="sum").double() for piece in pieces]
    return Measurement(right / counted, torch.stack(losses).sum().item() / counted)


def ensemble(logits: Sequence[Tensor]) -> Tensor:
    """The plain average of several classifiers: K times [N, C] logits -> [N, C] log of the mean probability."""
    return torch.stack([row.softmax(1) for row in logits]).mean(0).clamp_min(1e-38).log()
