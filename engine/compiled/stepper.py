"""From a preset's wish to what takes the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from engine.architectures import library_of
from engine.compiled.builder import Builder
from engine.compiled.request import Request
from engine.compiled.steps import Compile, CompiledStepper, Tell
from engine.data import Batch
from engine.meta.sgd import Sgd
from engine.methods import Method, Plan
from engine.models import Output
from engine.stepping import Stepper


def stepper_of(plan: Plan, mode: Compile, tell: Tell) -> Callable[[Method, torch.optim.SGD], Stepper]:
    """For a method that `plan` built: eager steps, which change over to compiled ones unless `mode` is "off"."""
    if mode == "off":
        return Stepper
    if library_of(plan.arch)[0] == "plugin":
        # The process that compiles runs no user's code; neither would it know when that has changed.
        tell("info", f"{plan.arch} is a plugin's: its steps are not compiled")
        return Stepper

    def source(batch: Batch, teachers: Sequence[Output], sgd: Sgd) -> Builder:
        shapes = [(t.features.shape[1], t.features.shape[2], t.features.shape[3]) for t in teachers]
        return Builder(Request.of(plan, batch.images, shapes, sgd))

    return lambda method, optimizer: CompiledStepper(method, optimizer, source, tell, mode)
