"""Wide residual networks: pre-activation blocks, depth 6n + 4, k times as wide. Zagoruyko & Komodakis, 2016.

Modules are named as in the field's repositories (block1.layer.0.convShortcut ...), so that their checkpoints fit.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.interface import Classifier, initialise


class WideBlock(nn.Module):
    """BatchNorm and ReLU before each of two 3x3 convolutions."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.convShortcut = None if channels == width else nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] -> [B, width, h / stride, w / stride]."""
        active = F.relu(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        out: Tensor = shortcut + self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out


class WideStage(nn.Module):
    """A run of blocks, the first of which changes the shape."""

    def __init__(self, blocks: int, channels: int, width: int, stride: int) -> None:
        super().__init__()
        rest = (WideBlock(width, width, 1) for _ in range(blocks - 1))
        self.layer = nn.Sequential(WideBlock(channels, width, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] -> [B, width, h / stride, w / stride]."""
        out: Tensor = self.layer(x)
        return out


class WideResNet(Classifier):
    """A stem and three stages of widths 16k, 32k and 64k; the second and third halve the map."""

    def __init__(self, depth: int, factor: int, channels: int, classes: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.feature_channels = 64 * factor
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.block1 = WideStage(blocks, 16, 16 * factor, 1)
        self.block2 = WideStage(blocks, 16 * factor, 32 * factor, 2)
        self.block3 = WideStage(blocks, 32 * factor, 64 * factor, 2)
        self.bn1 = nn.BatchNorm2d(64 * factor)
        self.fc = nn.Linear(64 * factor, classes)
        initialise(self)
        nn.init.zeros_(self.fc.bias)

    def features(self, images: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, 64k, H / 4, W / 4]."""
        x = self.block3(self.block2(self.block1(self.conv1(images))))
        return F.relu(self.bn1(x))

    def head(self, pooled: Tensor) -> Tensor:
        """[B, 64k] -> [B, C]."""
        logits: Tensor = self.fc(pooled)
        return logits


def wrn(name: str, channels: int, classes: int) -> WideResNet:
    """`wrn_40_2`: depth 40, twice as wide."""
    _, depth, factor = name.split("_")
    return WideResNet(int(depth), int(factor), channels, classes)
