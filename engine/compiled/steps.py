"""Steps that begin eagerly and change over to compiled ones, each kind at a step on which both were found to agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from engine.compiled.changeover import Changeover, Compile, Part, Result, Source, Tell
from engine.compiled.flat import Function
from engine.compiled.pure import Pure
from engine.data import Batch
from engine.meta.sgd import Sgd, Tensors, momenta_of
from engine.methods.base import Hard, MetaGradient, MetaStep, Method, Step
from engine.models import Output
from engine.stepping import Stepper

# How far each result of a compiled step may be from the eager one, in float32 and with bfloat16: the norm of the difference over
# that of the change or of the hyper-gradient. Rounding e moves a share e of the ReLUs across their kinks, and the gradient by
# about sqrt(e); a hyper-gradient goes through four such gradients: on a noisy batch, float32 itself is 0.1 from float64.
TOLERANCE = {"train": (0.02, 0.25), "meta": (0.3, 0.5)}
# The first steps of a training are the noisiest: in bfloat16 a MobileNet's first updates are as far from float32's as from
# nothing, and some dozens later a quarter as far.
TRIES = (1, 10, 100, 1000)
STATE = ("parameters", "momenta", "buffers")
NAMES = {"train": "training steps", "meta": "meta steps"}
WORTH = 600.0  # seconds that a training must have before it, for compiling to begin


class CompiledStepper(Stepper):
    """Takes a method's steps by SGD: eagerly, until compiled ones are at hand and agree.

    `source` makes what compiles them, from a first batch and what the teachers said of it.
    """

    def __init__(
        self,
        method: Method,
        optimizer: torch.optim.SGD,
        source: Callable[[Batch, Sequence[Output], Sgd], Source],
        tell: Tell,
        mode: Compile = "auto",
    ) -> None:
        super().__init__(method, optimizer)
        self._make_source = source
        self._pure = Pure(method, Sgd.of(optimizer))
        parts = {part: Part(NAMES[part], TOLERANCE[part][method.learner.bf16], TRIES) for part in self._pure.parts}
        self.changeover = Changeover(parts, "the steps", WORTH, tell, mode)

    def consider(self, seconds_left: float) -> None:
        """How long this training has still to go, at the pace that it has now."""
        self.changeover.consider(seconds_left)

    def close(self) -> None:
        """Ends the compiling, if it goes on."""
        self.changeover.close()

    def compiled(self, part: str) -> bool:
        """Whether steps of this kind ("train" or "meta") have changed over."""
        return part in self.changeover.compiled

    def train(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        """The loss on a batch, and the update of the learner."""
        compiled = self.changeover.compiled.get("train")
        if compiled is not None:
            return self._update(*compiled(*self._arguments(batch, teachers)))
        candidate = self._candidate("train", batch, teachers)
        if candidate is None:
            return super().train(batch, teachers)
        before = [[tensor.clone() for tensor in part] for part in self._parts()]
        try:
            *after, told = candidate(*self._arguments(batch, teachers))
        except Exception as error:
            self.changeover.give_up("train", error)
            return super().train(batch, teachers)
        step = super().train(batch, teachers)
        if step.finite is not None and not step.finite.all():
            return step  # it was left out: there is nothing to compare
        changes = [
            Result(words, _changes(old, new), _changes(old, expected))
            for words, old, new, expected in zip(STATE, before, after, self._parts(), strict=True)
        ]
        said = [
            Result(name.replace("_", " "), [value], [getattr(step, name)])
            for name, value in told.items()
            if value.is_floating_point()
        ]
        if self.changeover.agree("train", candidate, [*(result for result in changes if result.expected), *said]):
            # From here on in the layout in which the compiled step gives its results.
            self.method.learner.to(memory_format=torch.channels_last)
        return step

    def meta_gradient(self, hard: Hard) -> MetaGradient:
        """What a meta step on a hard batch learns."""
        compiled = self.changeover.compiled.get("meta")
        if compiled is not None:
            return self._found(*compiled(*self._arguments(*hard)))
        expected = super().meta_gradient(hard)
        candidate = self._candidate("meta", *hard)
        if candidate is not None and expected.told.finite:
            try:
                gradient, told = candidate(*self._arguments(*hard))
            except Exception as error:
                self.changeover.give_up("meta", error)
            else:
                results = [
                    Result("hyper-gradients", gradient, expected.gradient),
                    Result("outer losses", told[:1], [expected.told.outer_loss]),
                ]
                self.changeover.agree("meta", candidate, results)
        return expected

    def _candidate(self, part: str, batch: Batch, teachers: Sequence[Output]) -> Function | None:
        return self.changeover.candidate(part, lambda: self._make_source(batch, teachers, Sgd.of(self.optimizer)))

    def _arguments(self, batch: Batch, teachers: Sequence[Output]) -> tuple[Any, ...]:
        momenta = momenta_of(self.optimizer, self.parameters)
        parameters, buffers, weights = self._pure.tensors()
        lr = parameters[0].new_full((), self.optimizer.param_groups[0]["lr"])  # filled on the device, not copied to it
        outputs = [tensor for teacher in teachers for tensor in teacher]
        return parameters, momenta, buffers, weights, lr, batch.images, batch.labels, *outputs

    def _update(self, parameters: Tensors, momenta: Tensors, buffers: Tensors, told: dict[str, Tensor]) -> Step:
        """Puts a compiled step's results in place: tensors change hands, none is copied."""
        before = self._parts()
        self._restore = lambda: self._swap(*before)
        self._swap(parameters, momenta, buffers)
        return Step(**told)

    def _swap(self, parameters: Tensors, momenta: Tensors, buffers: Tensors) -> None:
        for parameter, momentum, value in zip(self.parameters, momenta, parameters, strict=True):
            parameter.data = value
            self.optimizer.state[parameter]["momentum_buffer"] = momentum
        for buffer, value in zip(self.method.learner.buffers(), buffers, strict=True):
            buffer.data = value

    def _parts(self) -> tuple[Tensors, Tensors, Tensors]:
        """What a training step changes, in the order of STATE."""
        count, state = len(self.parameters), [tensor.detach() for tensor in self._state()]
        return state[:count], state[count : 2 * count], state[2 * count :]

    def _found(self, gradient: Tensors, told: Sequence[Tensor]) -> MetaGradient:
        return MetaGradient(gradient, MetaStep(*told))


def _changes(before: Tensors, after: Tensors) -> list[Tensor]:
    """By how much; counters are left out."""
    return [new - old for old, new in zip(before, after, strict=True) if old.is_floating_point()]
