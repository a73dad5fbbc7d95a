"""The teachers of a run, side by side: frozen, in evaluation mode, asked together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.models.interface import Classifier, Output


class TeacherPanel:
    """K frozen teachers. With `bf16` their passes run in bfloat16; what comes out is float32 again."""

    def __init__(self, teachers: Sequence[Classifier], bf16: bool = False) -> None:
        self.teachers = [teacher.eval().requires_grad_(False) for teacher in teachers]
        self.bf16 = bf16

    @property
    def channels(self) -> list[int]:
        """Of each teacher's feature map."""
        return [teacher.feature_channels for teacher in self.teachers]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[Output]:
        """[B, channels, H, W] -> what each teacher says."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            outputs: list[Output] = [teacher(images) for teacher in self.teachers]
        return [Output(o.logits.float(), o.features.float()) for o in outputs] if self.bf16 else outputs
