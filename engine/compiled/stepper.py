"""From a preset's wish to what takes the steps, and to what asks the teachers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from engine.compiled.builder import Builder
from engine.compiled.changeover import Compile, Tell
from engine.compiled.panel import CompiledPanel
from engine.compiled.request import StepsRequest, TeachersRequest
from engine.compiled.steps import CompiledStepper
from engine.data import Batch
from engine.meta.sgd import Sgd
from engine.methods import Method, Plan
from engine.methods.base import Teachers
from engine.models import Output
from engine.models.panel import TeacherPanel
from engine.stepping import Stepper


def stepper_of(plan: Plan, mode: Compile, tell: Tell) -> Callable[[Method, torch.optim.SGD], Stepper]:
    """For a method that `plan` built: eager steps, which change over to compiled ones unless `mode` is "off"."""
    if mode == "off":
        return Stepper

    def source(batch: Batch, teachers: Sequence[Output], sgd: Sgd) -> Builder:
        shapes = [(t.features.shape[1], t.features.shape[2], t.features.shape[3]) for t in teachers]
        return Builder(StepsRequest.of(plan, batch.images, shapes, sgd))

    return lambda method, optimizer: CompiledStepper(method, optimizer, source, tell, mode)


def panel_of(panel: TeacherPanel, archs: Sequence[str], classes: int, mode: Compile, tell: Tell) -> Teachers:
    """Teachers of these architectures, asked eagerly, and by a compiled pass once there is one, unless `mode` is "off"."""
    if mode == "off" or not panel.teachers:
        return panel
    return CompiledPanel(panel, lambda images: Builder(TeachersRequest.of(panel, tuple(archs), classes, images)), tell, mode)
