"""ResNets of four stages: ImageNet's depths behind a 3x3 stem for small images, and wide ones behind ImageNet's own stem.

He et al., 2016 (arXiv 1512.03385), table 1. The small-image forms are named as in the field's benchmark code (shortcut, linear),
the wide forms as in torchvision (downsample, fc), so that checkpoints of either fit.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.interface import Classifier, initialise
from engine.models.tapped import Tapped

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


class _Block(nn.Module):
    """Convolutions with BatchNorm, added to a shortcut that is a 1x1 convolution where shapes differ."""

    def __init__(self, layers: list[nn.Conv2d], channels: int, stride: int) -> None:
        super().__init__()
        self.count = len(layers)
        for number, layer in enumerate(layers, start=1):
            setattr(self, f"conv{number}", layer)
            setattr(self, f"bn{number}", nn.BatchNorm2d(layer.out_channels))
        out = layers[-1].out_channels
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] -> [B, out, h / stride, w / stride]."""
        y = x
        for number in range(1, self.count + 1):
            y = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(y))
            if number < self.count:
                y = F.relu(y)
        return F.relu(y + self.shortcut(x))


def basic(channels: int, width: int, stride: int) -> _Block:
    """Two 3x3 convolutions."""
    first = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
    return _Block([first, nn.Conv2d(width, width, 3, 1, 1, bias=False)], channels, stride)


def bottleneck(channels: int, width: int, stride: int) -> _Block:
    """1x1, 3x3, and 1x1 to four times the width."""
    middle = nn.Conv2d(width, width, 3, stride, 1, bias=False)
    layers = [nn.Conv2d(channels, width, 1, bias=False), middle, nn.Conv2d(width, 4 * width, 1, bias=False)]
    return _Block(layers, channels, stride)


class SmallImageResNet(Classifier):
    """A 3x3 stem without pooling; the last three of four stages halve the map."""

    def __init__(self, name: str, channels: int, classes: int) -> None:
        super().__init__()
        deep = name == "resnet50"
        self.feature_channels = 2048 if deep else 512
        self.conv1, self.bn1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        before = 64
        for number, count in enumerate(BLOCKS[name], start=1):
            width, blocks = 64 * 2 ** (number - 1), []
            for place in range(count):
                stride = 2 if number > 1 and place == 0 else 1
                blocks.append((bottleneck if deep else basic)(before, width, stride))
                before = 4 * width if deep else width
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.linear = nn.Linear(before, classes)
        initialise(self)

    def features(self, images: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, feature_channels, H / 8, W / 8]."""
        x = F.relu(self.bn1(self.conv1(images)))
        for number in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{number}")(x)
        return x

    def head(self, pooled: Tensor) -> Tensor:
        """[B, feature_channels] -> [B, C]."""
        logits: Tensor = self.linear(pooled)
        return logits


class _WideBlock(nn.Module):
    """torchvision's place for a block, with `expansion` times its width in both convolutions."""

    expansion: int

    def __init__(
        self, inplanes: int, planes: int, stride: int = 1, downsample: nn.Module | None = None, *ungrouped: Any, **rest: Any
    ) -> None:
        super().__init__()
        width = planes * self.expansion
        self.conv1, self.bn1 = nn.Conv2d(inplanes, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """[B, inplanes, h, w] -> [B, width, h / stride, w / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


class _Twice(_WideBlock):
    expansion = 2


class _FourTimes(_WideBlock):
    expansion = 4


def wide_resnet(name: str, channels: int, classes: int) -> Tapped:
    """`resnet34x4`: torchvision's ResNet with its stages four times as wide, its stem of 64 channels as it is."""
    from torchvision.models import ResNet

    depth, _, factor = name.partition("x")
    block: Any = {"2": _Twice, "4": _FourTimes}[factor]
    network = ResNet(block, list(BLOCKS[depth]), num_classes=classes)
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    model = Tapped(network, "layer4")
    model.feature_channels = 512 * int(factor)
    return model
