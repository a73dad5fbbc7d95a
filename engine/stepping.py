"""One training step of any method: the loss, the update, and the meta step where one is due."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.data import Batch
from engine.meta.sgd import Sgd, momenta_of
from engine.methods.base import Hard, MetaGradient, MetaStep, Method, Step
from engine.models import Output


class Stepper:
    """Takes a method's steps by SGD, eagerly."""

    def __init__(self, method: Method, optimizer: torch.optim.SGD) -> None:
        self.method, self.optimizer = method, optimizer
        self.parameters = list(method.learner.parameters())

    def __call__(self, batch: Batch, teachers: Sequence[Output], number: int) -> tuple[Step, MetaStep | None]:
        """Training step `number`, counted from 0, on a batch and what the teachers say of it."""
        step = self.train(batch, teachers)
        hard = self.method.after_step(batch, teachers, step, number)
        if hard is None:
            return step, None
        found = self.meta_gradient(hard)
        self.method.learn(found)
        return step, found.told

    def consider(self, seconds_left: float) -> None:
        """Told now and then how long this training has still to go."""

    def close(self) -> None:
        """Called after the last step."""

    def train(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        """The loss on a batch, and the update of the learner."""
        step = self.method.step(batch, teachers)
        self.optimizer.zero_grad()
        step.loss.backward()  # type: ignore[no-untyped-call]
        # Of batches of one size this makes the gradient of all of them joined.
        self.method.ranks.average([p.grad for p in self.parameters if p.grad is not None])
        self.optimizer.step()
        return step

    def meta_gradient(self, hard: Hard) -> MetaGradient:
        """What a meta step on a hard batch learns."""
        return self.method.meta_gradient(*hard, momenta_of(self.optimizer, self.parameters), Sgd.of(self.optimizer))
