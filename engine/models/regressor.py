"""Regressors: from the student's feature map to a teacher's channels, so that the two can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.kernels import Arithmetic
from engine.models.interface import Classifier
from engine.randomness import key


def pointwise(student: int, teacher: int) -> nn.Sequential:
    """One 1x1 convolution, BatchNorm, ReLU: [B, student, h, w] -> [B, teacher, h, w]."""
    return nn.Sequential(nn.Conv2d(student, teacher, 1), nn.BatchNorm2d(teacher), nn.ReLU())


def bottleneck(student: int, teacher: int) -> nn.Sequential:
    """1x1 to half the channels, 3x3, 1x1, each with BatchNorm and ReLU: [B, student, h, w] -> [B, teacher, h, w]."""
    half = student // 2
    return nn.Sequential(
        *(nn.Conv2d(student, half, 1), nn.BatchNorm2d(half), nn.ReLU()),
        *(nn.Conv2d(half, half, 3, padding=1), nn.BatchNorm2d(half), nn.ReLU()),
        *(nn.Conv2d(half, teacher, 1), nn.BatchNorm2d(teacher), nn.ReLU()),
    )


FORMS = {"pointwise": pointwise, "bottleneck": bottleneck}


class LearnerOutput(NamedTuple):
    """The student on a batch of B images, and its features as each of K regressors maps them."""

    logits: Tensor  # [B, C]
    features: Tensor  # [B, c, h, w]
    regressed: list[Tensor]  # K times [B, c_k, h', w'], h' the smaller of the student's and the teacher's
    taken: Tensor  # the features as the regressors took them (in bf16 where they compute so): gradients go by this one


class Learner(nn.Module):
    """All that the student's optimiser updates: the student and a regressor for each teacher (none, for most methods).

    With `bf16` convolutions run in bfloat16; what comes out is float32 again.
    """

    def __init__(
        self,
        student: Classifier,
        teacher_channels: Sequence[int] = (),
        form: str = "pointwise",
        seed: int = 0,
        bf16: bool = False,
    ) -> None:
        super().__init__()
        self.student = student
        self.bf16 = bf16
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key(seed, "regressors"))
            self.regressors = nn.ModuleList(FORMS[form](student.feature_channels, c) for c in teacher_channels)

    def forward(self, images: Tensor, sizes: Sequence[tuple[int, int]] = ()) -> LearnerOutput:
        """[B, channels, H, W], and (h, w) of each teacher's feature map."""
        with Arithmetic(bf16=True) if self.bf16 else nullcontext():
            logits, features = self.student(images)
            pairs = zip(self.regressors, sizes, strict=True)
            regressed = [regressor(shrink(features, size)) for regressor, size in pairs]
        if self.bf16:
            return LearnerOutput(logits.float(), features.float(), [r.float() for r in regressed], features)
        return LearnerOutput(logits, features, regressed, features)


def shrink(features: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, c, h, w] average-pooled to at most `size`; the same tensor where it is no larger."""
    target = (min(features.shape[2], size[0]), min(features.shape[3], size[1]))
    return features if target == features.shape[2:] else F.adaptive_avg_pool2d(features, target)
