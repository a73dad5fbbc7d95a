"""One training step of any method: the loss, the update, and the meta step where one is due."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from engine.data import Batch
from engine.kernels.finite import Guard, finite_parts
from engine.meta.sgd import Sgd, momenta_of
from engine.methods.base import Hard, MetaGradient, MetaStep, Method, Step
from engine.methods.step import accounted
from engine.models import Output
from engine.out_of_memory import lacks_memory


class Stepper:
    """Takes a method's steps by SGD, eagerly. One that comes out not finite is left out: the learner stays as it was."""

    def __init__(self, method: Method, optimizer: torch.optim.SGD) -> None:
        self.method, self.optimizer = method, optimizer
        self.parameters = list(method.learner.parameters())
        self._guard = Guard(self.parameters[0].device.type != "cpu")
        self._restore: Callable[[], None] | None = None  # takes the learner back to before the step in hand

    def __call__(self, batch: Batch, teachers: Sequence[Output], number: int) -> tuple[Step, MetaStep | None]:
        """Training step `number`, counted from 0, on a batch and what the teachers say of it.

        An error of which `lacks_memory` is true leaves everything as it was before the step.
        """
        trained = False
        try:
            step = self.train(batch, teachers)
            trained = True
            hard = self.method.after_step(batch, teachers, step, number)
            if hard is None:
                return step, None
            found = self.meta_gradient(hard)
            self.method.learn(found)
            return step, found.told
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error):
                raise
            if trained:
                self.method.withdraw()
            if self._restore is not None:
                self._restore()
            raise
        finally:
            self._restore = None

    def consider(self, seconds_left: float) -> None:
        """Told now and then how long this training has still to go."""

    def release(self) -> bool:
        """Gives back memory that steps could do without; whether there was any."""
        return False

    def close(self) -> None:
        """Called after the last step."""

    def train(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        """The loss on a batch, and the update of the learner."""
        self._guard.keep(self._state())
        self._restore = lambda: self._guard.take_back(self._state())
        step = self.method.step(batch, teachers)
        self.optimizer.zero_grad()
        step.loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        buffers = list(self.method.learner.buffers())
        # Of batches of one size this makes the gradient of all of them joined; and a rank's student that of every rank.
        self.method.ranks.average([*gradients, *[buffer for buffer in buffers if buffer.is_floating_point()]])
        finite = finite_parts(step.loss.detach(), gradients, buffers)
        finite = self.method.ranks.everywhere(finite)
        self.optimizer.step()
        self._guard.settle(self._state(), finite.all())
        return accounted(step, finite, batch.labels, len(teachers))

    def _state(self) -> list[Tensor]:
        """What a training step changes."""
        return [*self.parameters, *momenta_of(self.optimizer, self.parameters), *self.method.learner.buffers()]

    def meta_gradient(self, hard: Hard) -> MetaGradient:
        """What a meta step on a hard batch learns."""
        return self.method.meta_gradient(*hard, momenta_of(self.optimizer, self.parameters), Sgd.of(self.optimizer))
