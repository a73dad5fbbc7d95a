"""Steps that begin eagerly and change over to quicker ones, each kind at a step on which both were found to agree.

On a GPU those are recorded at first, so that the kernels of an eager step are launched as one; compiled ones are recorded, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from engine.compiled.changeover import Changeover, Compile, Part, Result, Source, Stages, Tell
from engine.compiled.flat import Function
from engine.compiled.pure import FIELDS, Pure, step_of
from engine.compiled.recorded import WORTH_RECORDING, Recorded, RecordedSource, Recorder, records, spared
from engine.data import Batch
from engine.meta.sgd import Sgd, Tensors
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
        self._make_source, self._tell = source, tell
        self._pure = Pure(method, Sgd.of(optimizer))
        parts = {part: Part(NAMES[part], TOLERANCE[part][method.learner.bf16], TRIES) for part in self._pure.parts}
        self.changeover = Changeover(parts, "the steps", WORTH, tell, mode)
        self._records = records(self.parameters[0].device)
        self._left: tuple[Tensors, Tensors, Tensors] | None = None
        stages = [(self.changeover, self._compile)]
        if self._records:
            recorded = Changeover(parts, "the steps", 0.0, tell, mode, "recorded", WORTH_RECORDING)
            stages.insert(0, (recorded, self._record))
        self.stages = Stages(*stages)

    def consider(self, seconds_left: float) -> None:
        """How long this training has still to go, at the pace that it has now."""
        self.stages.consider(seconds_left)

    def release(self) -> bool:
        """Gives back the memory that recordings take, and records nothing more; whether there were any."""
        released = self._records and self.stages.release(spared)
        if released:
            self._records, self._left = False, None
            self._tell("warning", "there is too little memory for recorded steps: training goes on without them, and slower")
        return released

    def close(self) -> None:
        """Ends the compiling, if it goes on. The learner's tensors are its own again."""
        lies_in_results = isinstance(self.stages.used("train"), Recorded)
        self.stages.close()
        self._left = None
        if lies_in_results:
            with suppress(torch.OutOfMemoryError):
                self._swap(*([tensor.clone() for tensor in part] for part in self._parts()))

    def compiled(self, part: str) -> bool:
        """Whether steps of this kind ("train" or "meta") have changed over."""
        return part in self.changeover.compiled

    def train(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        """The loss on a batch, and the update of the learner."""
        function, changeover = self.stages.of("train", batch, teachers)
        if function is None:
            return super().train(batch, teachers)
        if changeover is None:
            return self._update(function, self._arguments(batch, teachers))
        before = [[tensor.clone() for tensor in part] for part in self._parts()]
        try:
            *after, told = function(*self._arguments(batch, teachers))
        except Exception as error:
            changeover.give_up("train", error)
            return super().train(batch, teachers)
        step = super().train(batch, teachers)
        if step.finite is not None and not step.finite.all():
            return step  # it was left out: there is nothing to compare
        changes = [
            Result(words, _changes(old, new), _changes(old, other))
            for words, old, new, other in zip(STATE, before, after, self._parts(), strict=True)
        ]
        said = [
            Result(name.replace("_", " "), [value], [getattr(step, name)])
            for name, value in told.items()
            if name in FIELDS and value.is_floating_point()
        ]
        if changeover.agree("train", function, [*(result for result in changes if result.expected), *said]):
            self.stages.settle("train")
            self._left = None
            meta = self.stages.used("meta")
            if isinstance(meta, Recorded):  # it knows the results of the step that has been replaced
                meta.forget()
            if changeover is self.changeover:
                # From here on in the layout in which the compiled step gives its results.
                self.method.learner.to(memory_format=torch.channels_last)
        return step

    def meta_gradient(self, hard: Hard) -> MetaGradient:
        """What a meta step on a hard batch learns."""
        function, changeover = self.stages.of("meta", *hard)
        if function is not None and changeover is None:
            return self._found(*function(*self._arguments(*hard)))
        expected = super().meta_gradient(hard)
        if function is not None and changeover is not None and expected.told.finite:
            try:
                gradient, told = function(*self._arguments(*hard))
            except Exception as error:
                changeover.give_up("meta", error)
            else:
                results = [
                    Result("hyper-gradients", gradient, expected.gradient),
                    Result("outer losses", told[:1], [expected.told.outer_loss]),
                ]
                changeover.agree("meta", function, results)
                self.stages.settle("meta")
        return expected

    def _compile(self, batch: Batch, teachers: Sequence[Output]) -> Source:
        source = self._make_source(batch, teachers, Sgd.of(self.optimizer))
        return RecordedSource(source, lambda: self._records) if self._records else source

    def _record(self, batch: Batch, teachers: Sequence[Output]) -> Source:
        return Recorder({part: getattr(self._pure, part) for part in self._pure.parts})

    def _arguments(self, batch: Batch, teachers: Sequence[Output]) -> tuple[Any, ...]:
        parameters, momenta, buffers = self._lying_as_left() or self._parts()
        lr = parameters[0].new_full((), self.optimizer.param_groups[0]["lr"])  # filled on the device, not copied to it
        outputs = [tensor for teacher in teachers for tensor in teacher]
        return parameters, momenta, buffers, self._pure.weights(), lr, batch.images, batch.labels, *outputs

    def _update(self, function: Function, arguments: tuple[Any, ...]) -> Step:
        """Puts a quicker step's results in place: tensors change hands, none is copied."""
        *after, told = function(*arguments)
        # A recorded step's results lie where the last one's lay: what was before is where it was read.
        before = function.given if isinstance(function, Recorded) else arguments
        self._restore = lambda: self._swap(*before[:3])
        if after[0] is not arguments[0]:
            self._swap(*after)
            self._left = (after[0], after[1], after[2]) if isinstance(function, Recorded) else None
        return step_of(told)

    def _lying_as_left(self) -> tuple[Tensors, Tensors, Tensors] | None:
        """The results of the last recorded step, where what a training step changes still lies in them: then they are not looked
        at again.
        """
        if self._left is None:
            return None
        parameters, momenta, buffers = self._left
        states = self.optimizer.state
        lies_there = (
            all(own.data_ptr() == left.data_ptr() for own, left in zip(self.parameters, parameters, strict=True))
            and all(states[own]["momentum_buffer"] is left for own, left in zip(self.parameters, momenta, strict=True))
            and all(own.data_ptr() == left.data_ptr() for own, left in zip(self._pure.buffers(), buffers, strict=True))
        )
        return self._left if lies_there else None

    def _swap(self, parameters: Tensors, momenta: Tensors, buffers: Tensors) -> None:
        for parameter, momentum, value in zip(self.parameters, momenta, parameters, strict=True):
            parameter.data = value
            self.optimizer.state[parameter]["momentum_buffer"] = momentum
        for buffer, value in zip(self._pure.buffers(), buffers, strict=True):
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
