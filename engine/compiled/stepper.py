"""From a preset's wish to what takes the steps, and to what asks the teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from engine.architectures import library_of
from engine.compiled.builder import Builder
from engine.compiled.changeover import Compile, Tell
from engine.compiled.panel import CompiledPanel
from engine.compiled.request import StepsRequest, TeachersRequest
from engine.compiled.steps import WORTH, CompiledStepper
from engine.data import Batch
from engine.meta.sgd import Sgd
from engine.methods import Method, Plan
from engine.methods.base import Teachers
from engine.models import Output
from engine.models.panel import TeacherPanel
from engine.preset import TeacherPart
from engine.stepping import Stepper


class EagerStepper(Stepper):
    """Takes the steps of a method that cannot be compiled, and says so once where compiling was asked for or would pay."""

    def __init__(self, method: Method, optimizer: torch.optim.SGD, tell: Tell, mode: Compile) -> None:
        super().__init__(method, optimizer)
        self._tell, self._least = tell, 0.0 if mode == "on" else WORTH
        self._told = False

    def consider(self, seconds_left: float) -> None:
        """How long this training has still to go, at the pace that it has now."""
        if not self._told and seconds_left >= self._least:
            self._told = True
            self._tell("info", f"the training step is not compiled: {self.method.eager_because}")


def stepper_of(plan: Plan, mode: Compile, tell: Tell) -> Callable[[Method, torch.optim.SGD], Stepper]:
    """For a method that `plan` built: eager steps, which change over to compiled ones if `mode` and the method allow it."""
    if mode == "off":
        return Stepper
    if library_of(plan.arch)[0] == "plugin":
        # The process that compiles runs no user's code; neither would it know when that has changed.
        tell("info", f"{plan.arch} is a plugin's: its steps are not compiled")
        return Stepper

    def source(batch: Batch, teachers: Sequence[Output], sgd: Sgd) -> Builder:
        shapes = [(t.features.shape[1], t.features.shape[2], t.features.shape[3]) for t in teachers]
        return Builder(StepsRequest.of(plan, batch.images, shapes, sgd))

    def make(method: Method, optimizer: torch.optim.SGD) -> Stepper:
        if method.eager_because:
            return EagerStepper(method, optimizer, tell, mode)
        return CompiledStepper(method, optimizer, source, tell, mode)

    return make


def panel_of(panel: TeacherPanel, parts: Sequence[TeacherPart], classes: int, mode: Compile, tell: Tell) -> Teachers:
    """The teachers of these parts, asked eagerly, and by a compiled pass once there is one, unless `mode` is "off"."""
    if mode == "off" or not panel.teachers or any(library_of(part.arch)[0] == "plugin" for part in parts):
        return panel
    if not panel.compilable:
        if mode == "on":
            tell("info", "the teachers' pass is not compiled: they do not lie on the device as a whole")
        return panel
    networks = tuple((part.arch, part.features) for part in parts)

    def source(images: Tensor, threads: int) -> Builder:
        return Builder(TeachersRequest.of(panel, networks, classes, images, threads))

    return CompiledPanel(panel, source, tell, mode)
