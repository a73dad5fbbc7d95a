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


Head = Callable[[Tensor], Tensor]  # feature maps [B, c, h, w] -> logits [B, C]


class TeacherPanel:
    """K frozen teachers. With `bf16` their convolutions run in bfloat16; what comes out is float32 again.

    The first batch shows how each teacher is put together; from then on, a copy that says the same in fewer operations is asked.
    """

    compilable = True  # whether one compiled pass may take its place

    def __init__(
        self, teachers: Sequence[Classifier], bf16: bool = False, tell: Callable[[str, str], None] | None = None
    ) -> None:
        """`tell` is given (level, message) where something is computed otherwise than was asked for."""
        self.teachers = [teacher.eval().requires_grad_(False) for teacher in teachers]
        self.bf16 = bf16
        self._tell = tell or (lambda level, message: None)
        self.device = next((p.device for teacher in teachers for p in teacher.parameters()), torch.device("cpu"))
        self._quick: list[Classifier] = []
        self.narrow: list[bool] = []  # which of the quick ones are in bfloat16

    @property
    def channels(self) -> list[int]:
        """Of each teacher's feature map."""
        return [teacher.feature_channels for teacher in self.teachers]

    def classifiers(self) -> list[Head]:
        """Each teacher's `classify`, ready for feature maps on the device."""
        return [teacher.classify for teacher in self.teachers]

    def alone(self, number: int) -> TeacherPanel:
        """A panel of that teacher alone, which lives where those of this panel do."""
        return TeacherPanel([self.teachers[number]], self.bf16)

    @torch.no_grad()
    def quick(self, images: Tensor) -> list[Classifier]:
        """Copies that say the same in fewer operations, channels-last; `images` [B, channels, H, W] are any."""
        if len(self._quick) < len(self.teachers):
            copies = [folded(teacher, images) for teacher in self.teachers]
            self.narrow = [self.bf16 and self._takes_bfloat16(number, quick, images) for number, quick in enumerate(copies)]
            pairs = zip(copies, self.narrow, strict=True)
            self._quick = [narrowed(quick) if narrow else quick.to(memory_format=torch.channels_last) for quick, narrow in pairs]
        return self._quick

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[Output]:
        """[B, channels, H, W] -> what each teacher says."""
        self.quick(images)
        laid_out = images.contiguous(memory_format=torch.channels_last)
        return [self.one(number, laid_out) for number in range(len(self.teachers))]

    @torch.no_grad()
    def one(self, number: int, laid_out: Tensor) -> Output:
        """What one of the quick teachers says of images that are laid out channels-last."""
        with Arithmetic(bf16=self.narrow[number]):
            output: Output = self._quick[number](laid_out)
        return Output(output.logits.float(), output.features.float()) if self.narrow[number] else output

    def _takes_bfloat16(self, number: int, quick: Classifier, images: Tensor) -> bool:
        laid_out = images.contiguous(memory_format=torch.channels_last)
        try:
            with Arithmetic(bf16=True):
                finite = all(bool(part.isfinite().all()) for part in narrowed(copy.deepcopy(quick))(laid_out))
        except (RuntimeError, TypeError):
            finite = False
        if not finite:
            self._tell("warning", f"teacher {number} cannot be computed in bfloat16; it is asked in float32")
        return finite

    def of(self, batch: HasImages) -> list[Output]:
        """What each teacher says of a batch's images."""
        return self(batch.images)

    def consider(self, seconds_left: float) -> None:
        """Told now and then how long the training has still to go."""

    def release(self) -> bool:
        """Gives back memory that answering could do without; whether there was any."""
        return False

    def close(self) -> None:
        """Called after the last batch."""
