"""The interface between a method and the training loop, and what the methods have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.data import Batch
from engine.models import Output
from engine.models.regressor import Learner, LearnerOutput


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


@dataclass(frozen=True, slots=True)
class MetaStep:
    """What a meta step tells of itself; scalars."""

    outer_loss: Tensor
    hard_accuracy: Tensor  # of the student, on the batch from the hard buffer
    logit_gradient: Tensor  # norm of the logit net's hyper-gradient
    feature_gradient: Tensor


class Method(ABC):
    """How a student is trained. The loop calls `step`, updates `learner` by SGD, and calls `after_step`."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    @abstractmethod
    def step(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        """The loss on a batch, given the teachers' outputs (none, for a method that uses no teacher)."""

    def after_step(
        self, batch: Batch, teachers: Sequence[Output], step: Step, number: int, optimizer: torch.optim.Optimizer
    ) -> MetaStep | None:
        """Called after each update; `number` counts training steps from 0. May learn, but never changes the learner."""
        return None

    def state(self) -> dict[str, Tensor]:
        """All that decides the method's future, beside the learner and its optimiser, by name; tensors are not copied."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes up what `state` gave."""
        assert not state, "a method that has a state takes it up"


def sizes_of(teachers: Sequence[Output]) -> list[tuple[int, int]]:
    """(h, w) of each teacher's feature map."""
    return [(t.features.shape[2], t.features.shape[3]) for t in teachers]


__all__ = ["Learner", "LearnerOutput", "MetaStep", "Method", "Step", "sizes_of"]
