"""The teachers of a run, side by side: frozen, in evaluation mode, asked together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from engine.kernels import Arithmetic
from engine.models.frozen import folded, narrowed
from engine.models.interface import Classifier, Output


class HasImages(Protocol):
    """A batch, whatever else it holds."""

    @property
    def images(self) -> Tensor: ...  # [B, channels, H, W]


class TeacherPanel:
    """K frozen teachers. With `bf16` their convolutions run in bfloat16; what comes out is float32 again.

    The first batch shows how each teacher is put together; from then on, a copy that says the same in fewer operations is asked.
    """

    def __init__(self, teachers: Sequence[Classifier], bf16: bool = False) -> None:
        self.teachers = [teacher.eval().requires_grad_(False) for teacher in teachers]
        self.bf16 = bf16
        self._quick: list[Classifier] = []

    @property
    def channels(self) -> list[int]:
        """Of each teacher's feature map."""
        return [teacher.feature_channels for teacher in self.teachers]

    def quick(self, images: Tensor) -> list[Classifier]:
        """Copies that say the same in fewer operations, channels-last; `images` [B, channels, H, W] are any."""
        if len(self._quick) < len(self.teachers):
            copies = [folded(teacher, images) for teacher in self.teachers]
            self._quick = [narrowed(copy) if self.bf16 else copy.to(memory_format=torch.channels_last) for copy in copies]
        return self._quick

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[Output]:
        """[B, channels, H, W] -> what each teacher says."""
        teachers = self.quick(images)
        images = images.contiguous(memory_format=torch.channels_last)
        with Arithmetic(bf16=self.bf16):
            outputs: list[Output] = [teacher(images) for teacher in teachers]
        return [Output(o.logits.float(), o.features.float()) for o in outputs]

    def of(self, batch: HasImages) -> list[Output]:
        """What each teacher says of a batch's images."""
        return self(batch.images)

    def consider(self, seconds_left: float) -> None:
        """Told now and then how long the training has still to go."""

    def close(self) -> None:
        """Called after the last batch."""
