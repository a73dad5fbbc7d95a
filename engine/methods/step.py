"""What a training step and a meta step tell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from engine.kernels.finite import PARTS


class Account(NamedTuple):
    """What a step adds to the averages and counts of its training. Taken by the step itself: compiled and recorded with it, it
    costs a GPU next to nothing, and dozens of small kernels by itself.
    """

    counted: Tensor  # bool scalar: every part is finite, so the step was not left out
    wrong: Tensor  # [B] bool: samples that the student got wrong
    row: Tensor  # [6 + 4 K] float64, see `accounted`; zeros where it was left out
    counts: Tensor  # [3 + PARTS] int64: what is added to those of `Tally` ...
    factors: Tensor  # ... and by what they are then multiplied
    rows: Tensor | None = None  # [B, 1 + 2 K] float64: 1 and the weights of each sample; zeros where it was left out


@dataclass(frozen=True, slots=True)
class Step:
    """What a training step computed on a batch of B images."""

    loss: Tensor  # scalar: what is differentiated
    logits: Tensor  # [B, C]
    ce: Tensor  # scalar, without its factor; so are the next two
    logit: Tensor | None = None
    feature: Tensor | None = None
    logit_weights: Tensor | None = None  # [B, K]
    feature_weights: Tensor | None = None  # [B, K]
    # Who takes the step says these.
    finite: Tensor | None = None  # [3] bool, see kernels.finite.PARTS; all of them, or the step was left out
    account: Account | None = None


@dataclass(frozen=True, slots=True)
class MetaStep:
    """What a meta step tells of itself; scalars."""

    outer_loss: Tensor
    hard_accuracy: Tensor  # of the student, on the batch from the hard buffer
    logit_gradient: Tensor  # norm of the logit net's hyper-gradient
    feature_gradient: Tensor

    @property
    def finite(self) -> Tensor:
        """A bool scalar: whether its hyper-gradient is finite; else nothing was learned from it."""
        return torch.stack([self.outer_loss, self.logit_gradient, self.feature_gradient]).isfinite().all()


@torch.no_grad()
def accounted(step: Step, finite: Tensor, labels: Tensor, teachers: int) -> Step:
    """With `finite` and the account of a step on labels [B] with K `teachers`.

    The account's row: 1; loss, ce, logit, feature, accuracy; then mean and mean square over the samples of each teacher's logit
    weight, and of each one's feature weight. Zeros stand for what the method has not.
    """
    counted = finite.all()
    zero, unweighed = step.loss.new_zeros(()), step.loss.new_zeros(len(labels), teachers)
    scalars = [zero if t is None else t.detach() for t in (step.loss, step.ce, step.logit, step.feature)]
    wrong = step.logits.argmax(1) != labels
    weights = [unweighed if w is None else w.detach() for w in (step.logit_weights, step.feature_weights)]
    weighed = torch.cat(weights, 1).double()  # [B, 2 K]
    means, squares, k = weighed.mean(0), weighed.square().mean(0), teachers
    one = torch.ones(1, dtype=torch.float64, device=labels.device)
    right = (~wrong).double().mean()[None]
    row = torch.cat([one, torch.stack(scalars).double(), right, means[:k], squares[:k], means[k:], squares[k:]])
    rows = None if step.logit_weights is None else torch.cat([one.expand(len(labels), 1), weighed], 1)
    left_out, missing = (~counted).long()[None], (~finite).long()
    unit, none = torch.ones_like(left_out), torch.zeros_like(left_out)
    account = Account(
        counted=counted,
        wrong=wrong,
        row=torch.where(counted, row, 0),
        counts=torch.cat([left_out, missing, none, unit]),
        factors=torch.cat([unit.expand(len(PARTS) + 2), left_out]),
        rows=None if rows is None else torch.where(counted, rows, 0),
    )
    return replace(step, finite=finite, account=account)
