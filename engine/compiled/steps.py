"""Steps that begin eagerly and change over to compiled ones, each kind at a step on which both were found to agree."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from engine.compiled.flat import Function
from engine.compiled.pure import Pure
from engine.data import Batch
from engine.meta.sgd import Sgd, Tensors, momenta_of
from engine.methods.base import Hard, MetaGradient, MetaStep, Method, Step
from engine.models import Output
from engine.stepping import Stepper

# How far a compiled step may be from the eager one: the norm of the difference over the norm of the update or hyper-gradient,
# in float32 and with bfloat16. Rounding e moves a share e of the ReLUs across their kinks, and the gradient by about sqrt(e);
# a hyper-gradient goes through four such gradients: on a noisy batch, float32 itself is 0.1 from float64.
TOLERANCE = {"train": (0.02, 0.25), "meta": (0.3, 0.5)}
TRIES = 3  # steps that a compiled one is compared on before it is given up
WORTH = 600.0  # seconds that a training must have before it, for compiling to begin
WORTH_LOADING = 30.0  # the same where it is compiled already

Compile = Literal["auto", "on", "off"]
Tell = Callable[[str, str], None]  # level, message


class Source(Protocol):
    """Where compiled steps come from."""

    def ready(self, part: str) -> bool:
        """Whether it needs no compiling."""

    def start(self) -> None:
        """Begins to compile."""

    def take(self, part: str) -> Function | Exception | None:
        """The step, why there is none, or None while that is not known."""

    def close(self) -> None:
        """Ends it."""


class CompiledStepper(Stepper):
    """Takes a method's steps by SGD: eagerly, until compiled ones are at hand and agree.

    `source` makes what compiles them, from a first batch and what the teachers said of it. Any failure leaves the steps as they
    are, with one line to `tell`.
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
        self.tell, self.mode, self._make_source = tell, mode, source
        self._pure = Pure(method, Sgd.of(optimizer))
        self._source: Source | None = None
        self._seconds_left = 0.0
        self._compiled: dict[str, Function] = {}
        self._given_up: set[str] = set()
        self._failures: dict[str, int] = {}
        self._began = 0.0

    def consider(self, seconds_left: float) -> None:
        """How long this training has still to go, at the pace that it has now."""
        self._seconds_left = seconds_left

    def close(self) -> None:
        """Ends the compiling, if it goes on."""
        if self._source is not None:
            self._source.close()

    def compiled(self, part: str) -> bool:
        """Whether steps of this kind ("train" or "meta") have changed over."""
        return part in self._compiled

    def train(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        """The loss on a batch, and the update of the learner."""
        if "train" in self._compiled:
            return self._update(*self._compiled["train"](*self._arguments(batch, teachers)))
        candidate = self._candidate("train", batch, teachers)
        if candidate is None:
            return super().train(batch, teachers)
        before = [p.detach().clone() for p in self.parameters]
        try:
            after, *_ = candidate(*self._arguments(batch, teachers))
        except Exception as error:
            self._give_up("train", error)
            return super().train(batch, teachers)
        step = super().train(batch, teachers)
        expected = torch._foreach_sub([p.detach() for p in self.parameters], before)
        if self._agree("train", list(torch._foreach_sub(after, before)), expected):
            # From here on in the layout in which the compiled step gives its results.
            self.method.learner.to(memory_format=torch.channels_last)
        return step

    def meta_gradient(self, hard: Hard) -> MetaGradient:
        """What a meta step on a hard batch learns."""
        if "meta" in self._compiled:
            return self._found(*self._compiled["meta"](*self._arguments(*hard)))
        expected = super().meta_gradient(hard)
        candidate = self._candidate("meta", *hard)
        if candidate is not None:
            try:
                gradient, _ = candidate(*self._arguments(*hard))
            except Exception as error:
                self._give_up("meta", error)
            else:
                self._agree("meta", gradient, expected.gradient)
        return expected

    def _arguments(self, batch: Batch, teachers: Sequence[Output]) -> tuple[Any, ...]:
        momenta = momenta_of(self.optimizer, self.parameters)
        parameters, buffers, weights = self._pure.tensors()
        lr = parameters[0].new_tensor(self.optimizer.param_groups[0]["lr"])
        outputs = [tensor for teacher in teachers for tensor in teacher]
        return parameters, momenta, buffers, weights, lr, batch.images, batch.labels, *outputs

    def _update(self, parameters: Tensors, momenta: Tensors, buffers: Tensors, told: dict[str, Tensor]) -> Step:
        """Puts a compiled step's results in place: tensors change hands, none is copied."""
        for parameter, momentum, value in zip(self.parameters, momenta, parameters, strict=True):
            parameter.data = value
            self.optimizer.state[parameter]["momentum_buffer"] = momentum
        for buffer, value in zip(self.method.learner.buffers(), buffers, strict=True):
            buffer.data = value
        return Step(**told)

    def _found(self, gradient: Tensors, told: Sequence[Tensor]) -> MetaGradient:
        return MetaGradient(gradient, MetaStep(*told))

    def _candidate(self, part: str, batch: Batch, teachers: Sequence[Output]) -> Function | None:
        """A compiled step that has not been tried yet."""
        if part in self._given_up or not self._started(batch, teachers):
            return None
        assert self._source is not None
        found = self._source.take(part)
        if isinstance(found, Exception):
            self._give_up(part, found)
            return None
        return found

    def _started(self, batch: Batch, teachers: Sequence[Output]) -> bool:
        """Begins to compile when it is time; whether it has begun."""
        if self._began:
            return self._source is not None
        if self.mode == "auto" and self._seconds_left < WORTH_LOADING:
            return False
        if self._source is None:
            self._source = self._make_source(batch, teachers, Sgd.of(self.optimizer))
        ready = all(self._source.ready(part) for part in self._pure.parts)
        if self.mode == "auto" and not ready and self._seconds_left < WORTH:
            return False
        self._began = time.monotonic()
        if not ready:
            try:
                self._source.start()
            except Exception as error:
                self._give_up("train", error)
                self._given_up.add("meta")
                return False
            self.tell("info", "the steps are being compiled on the side")
        return True

    def _agree(self, part: str, found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
        """Whether a compiled step is as good as the eager one; it is used from now on if it is."""
        difference, size = _norm(torch._foreach_sub(list(found), list(expected))), _norm(expected)
        error = (difference / size.clamp_min(torch.finfo(size.dtype).tiny)).item()
        if not error <= TOLERANCE[part][self.method.learner.bf16]:
            self._failures[part] = self._failures.get(part, 0) + 1
            if self._failures[part] == TRIES:
                self._give_up(part, RuntimeError(f"the results differ by {error:.2g} of the eager one's size"))
            return False
        assert self._source is not None
        compiled = self._source.take(part)
        assert callable(compiled)
        self._compiled[part] = compiled
        seconds = time.monotonic() - self._began
        self.tell("info", f"compiled {NAMES[part]} take over, {seconds:.0f} s after compiling began (difference {error:.1g})")
        return True

    def _give_up(self, part: str, error: Exception) -> None:
        self._given_up.add(part)
        text = str(error).strip().splitlines()
        why = f"{type(error).__name__}: {text[0] if text else ''}"
        self.tell("warning", f"{NAMES[part]} stay as they are, uncompiled: {why}")


NAMES = {"train": "training steps", "meta": "meta steps"}


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    total: Tensor = torch.stack(torch._foreach_norm(list(tensors))).double().norm()
    return total
