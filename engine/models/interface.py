"""What every teacher and student is: a classifier that also hands out its last feature map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Output(NamedTuple):
    """What a classifier says of a batch of B images."""

    logits: Tensor  # [B, C]
    features: Tensor  # [B, c, h, w]: the last feature map, after its activation, before global pooling


def paired(teachers: Sequence[Tensor]) -> list[Output]:
    """logits, features, logits, features, ... -> an Output a teacher."""
    return [Output(*pair) for pair in zip(teachers[::2], teachers[1::2], strict=True)]


class Classifier(nn.Module):
    """Base of all architectures. Subclasses set `feature_channels` and write `features`; the head is theirs to name."""

    feature_channels: int

    def features(self, images: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, feature_channels, h, w]."""
        raise NotImplementedError

    def head(self, pooled: Tensor) -> Tensor:
        """[B, feature_channels] -> logits [B, C]."""
        raise NotImplementedError

    def classify(self, features: Tensor) -> Tensor:
        """A feature map [B, feature_channels, h, w], this network's or one like it, of any size -> logits [B, C]."""
        # The head is fed at least float32, whatever the convolutions' precision.
        return self.head(features.mean((2, 3), dtype=torch.promote_types(features.dtype, torch.float32)))

    def forward(self, images: Tensor) -> Output:
        """[B, channels, H, W] -> logits [B, C] and the last feature map."""
        features = self.features(images)
        return Output(self.classify(features), features)


def initialise(model: nn.Module) -> None:
    """He initialisation of convolutions by fan-out, ones and zeros for BatchNorm; draws from torch's global generator."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
