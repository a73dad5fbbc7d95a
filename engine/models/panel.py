"""The teachers of a run, side by side: frozen, in evaluation mode, asked together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
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

    def __init__(
        self, teachers: Sequence[Classifier], bf16: bool = False, tell: Callable[[str, str], None] | None = None
    ) -> None:
        """`tell` is given (level, message) where something is computed otherwise than was asked for."""
        self.teachers = [teacher.eval().requires_grad_(False) for teacher in teachers]
        self.bf16 = bf16
        self._tell = tell or (lambda level, message: None)
        self._quick: list[Classifier] = []
        self._narrow: list[bool] = []  # which of them are in bfloat16

    @property
    def channels(self) -> list[int]:
        """Of each teacher's feature map."""
        return [teacher.feature_channels for teacher in self.teachers]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[Output]:
        """[B, channels, H, W] -> what each teacher says."""
        if len(self._quick) < len(self.teachers):
            self._make_quick(images)
        if not self.bf16:
            return [teacher(images) for teacher in self._quick]
        laid_out = images.contiguous(memory_format=torch.channels_last)
        pairs = zip(self._quick, self._narrow, strict=True)
        return [_in_bfloat16(teacher, laid_out) if narrow else teacher(images) for teacher, narrow in pairs]

    def _make_quick(self, images: Tensor) -> None:
        self._quick = [folded(teacher, images) for teacher in self.teachers]
        self._narrow = [self.bf16 and self._takes_bfloat16(number, images) for number in range(len(self._quick))]
        self._quick = [narrowed(quick) if n else quick for quick, n in zip(self._quick, self._narrow, strict=True)]

    def _takes_bfloat16(self, number: int, images: Tensor) -> bool:
        laid_out = images.contiguous(memory_format=torch.channels_last)
        try:
            finite = all(
                bool(part.isfinite().all()) for part in _in_bfloat16(narrowed(copy.deepcopy(self._quick[number])), laid_out)
            )
        except (RuntimeError, TypeError):
            finite = False
        if not finite:
            self._tell("warning", f"teacher {number} cannot be computed in bfloat16; it is asked in float32")
        return finite

    def of(self, batch: HasImages) -> list[Output]:
        """What each teacher says of a batch's images."""
        return self(batch.images)


def _in_bfloat16(teacher: Classifier, images: Tensor) -> Output:
    with Arithmetic(bf16=True):
        output: Output = teacher(images)
    return Output(output.logits.float(), output.features.float())
