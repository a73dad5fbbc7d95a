"""ResNet for small images: three stages of basic blocks, depth 6n + 2. He et al., 2016, section 4.2.

The x4 forms are four times as wide after a stem of 32 channels. Shortcuts that change shape are 1x1 convolutions with
BatchNorm, and modules are named as in the field's repositories, so that their checkpoints fit.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.interface import Classifier, initialise


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] -> [B, width, h / stride, w / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet(Classifier):
    """A stem and three stages; the second and third halve the map."""

    def __init__(self, depth: int, widths: tuple[int, int, int, int], channels: int, classes: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        stem, *stages = widths
        self.feature_channels = stages[-1]
        self.conv1 = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        before = stem
        for number, width in enumerate(stages, start=1):
            first = BasicBlock(before, width, 1 if number == 1 else 2)
            setattr(self, f"layer{number}", nn.Sequential(first, *(BasicBlock(width, width, 1) for _ in range(blocks - 1))))
            before = width
        self.fc = nn.Linear(before, classes)
        initialise(self)

    def features(self, images: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, feature_channels, H / 4, W / 4]."""
        x = F.relu(self.bn1(self.conv1(images)))
        for number in (1, 2, 3):
            x = self.get_submodule(f"layer{number}")(x)
        return x

    def head(self, pooled: Tensor) -> Tensor:
        """[B, feature_channels] -> [B, C]."""
        logits: Tensor = self.fc(pooled)
        return logits


NARROW = (16, 16, 32, 64)
WIDE = (32, 64, 128, 256)


def resnet(name: str, channels: int, classes: int) -> ResNet:
    """`resnet20` or `resnet20x4`: the depth stands in the name."""
    depth, _, factor = name.removeprefix("resnet").partition("x")
    return ResNet(int(depth), WIDE if factor else NARROW, channels, classes)
