"""Where a run's frozen teachers live: all on the device, or in CPU memory until their turn comes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from engine.models.interface import Classifier
from engine.models.panel import TeacherPanel
from engine.models.turns import TurnPanel


def placed(
    teachers: Sequence[Classifier], device: torch.device, where: str, bf16: bool, tell: Callable[[str, str], None]
) -> TeacherPanel:
    """A panel of the teachers, placed as `hardware.teachers` says; it answers the same to the bit."""
    if where == "in_turn":
        return TurnPanel(teachers, device, bf16, tell)
    return TeacherPanel([teacher.to(device) for teacher in teachers], bf16, tell)
