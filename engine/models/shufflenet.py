"""ShuffleNets for small images. Zhang et al., 2018 (arXiv 1707.01083), and Ma et al., 2018 (arXiv 1807.11164).

As the field's benchmark code has them: a 1x1 stem of 24 channels that keeps the map's size, three stages that halve it. Modules
are named as there (layer1.0.conv1, conv2, linear), so that its checkpoints fit.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.interface import Classifier, initialise

STEM = 24


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Channel c of group g becomes channel c * groups + g: [B, channels, h, w] -> the same shape."""
    batch, channels, height, width = x.shape
    return x.reshape(batch, groups, channels // groups, height, width).transpose(1, 2).reshape(x.shape)


def _conv(channels: int, width: int, size: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, width, size, stride, size // 2, groups=groups, bias=False)


class GroupedBlock(nn.Module):
    """Of the first ShuffleNet: grouped 1x1, shuffle, 3x3 on each channel, grouped 1x1. With a stride of 2 the pooled input is
    put beside the result, so that `width` is that of both.
    """

    def __init__(self, channels: int, width: int, stride: int, groups: int) -> None:
        super().__init__()
        self.stride = stride
        made = width - channels if stride == 2 else width
        inner = made // 4
        self.groups = 1 if channels == STEM else groups  # so few channels are not divided
        self.conv1, self.bn1 = _conv(channels, inner, groups=self.groups), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = _conv(inner, inner, 3, stride, groups=inner), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = _conv(inner, made, groups=groups), nn.BatchNorm2d(made)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] -> [B, width, h / stride, w / stride]."""
        y = shuffle(F.relu(self.bn1(self.conv1(x))), self.groups)
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        if self.stride == 2:
            return F.relu(torch.cat([y, F.avg_pool2d(x, 3, 2, 1)], 1))
        return F.relu(y + x)


class ShuffleNetV1(Classifier):
    """Three groups; stages of 4, 8 and 4 blocks with 240, 480 and 960 channels."""

    feature_channels = 960

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(channels, STEM), nn.BatchNorm2d(STEM)
        before = STEM
        for number, (width, count) in enumerate(((240, 4), (480, 8), (960, 4)), start=1):
            blocks = [GroupedBlock(before, width, 2, 3), *(GroupedBlock(width, width, 1, 3) for _ in range(count - 1))]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
            before = width
        self.linear = nn.Linear(before, classes)
        initialise(self)

    def features(self, images: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, 960, H / 8, W / 8]."""
        x = F.relu(self.bn1(self.conv1(images)))
        for number in (1, 2, 3):
            x = self.get_submodule(f"layer{number}")(x)
        return x

    def head(self, pooled: Tensor) -> Tensor:
        """[B, 960] -> [B, C]."""
        logits: Tensor = self.linear(pooled)
        return logits


class SplitBlock(nn.Module):
    """Of the second ShuffleNet: half of the channels pass, the other half goes through 1x1, 3x3 on each channel, 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = _conv(half, half), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = _conv(half, half, 3, groups=half), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = _conv(half, half), nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] -> the same shape."""
        passing, y = x.chunk(2, 1)
        y = F.relu(self.bn1(self.conv1(y)))
        y = F.relu(self.bn3(self.conv3(self.bn2(self.conv2(y)))))
        return shuffle(torch.cat([passing, y], 1), 2)


class HalvingBlock(nn.Module):
    """Of the second ShuffleNet: two branches on all channels, each of which gives half of `width` on a map of half the side."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1, self.bn1 = _conv(channels, channels, 3, 2, channels), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = _conv(channels, half), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = _conv(channels, half), nn.BatchNorm2d(half)
        self.conv4, self.bn4 = _conv(half, half, 3, 2, half), nn.BatchNorm2d(half)
        self.conv5, self.bn5 = _conv(half, half), nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] -> [B, width, h / 2, w / 2]."""
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = self.bn4(self.conv4(F.relu(self.bn3(self.conv3(x)))))
        right = F.relu(self.bn5(self.conv5(right)))
        return shuffle(torch.cat([left, right], 1), 2)


WIDTHS = {"shufflenetv2": (116, 232, 464, 1024), "shufflenetv2_0_5": (48, 96, 192, 1024)}


class ShuffleNetV2(Classifier):
    """Stages of 4, 8 and 4 blocks, and a 1x1 convolution to the last width."""

    def __init__(self, widths: tuple[int, int, int, int], channels: int, classes: int) -> None:
        super().__init__()
        self.feature_channels = widths[3]
        self.conv1, self.bn1 = _conv(channels, STEM), nn.BatchNorm2d(STEM)
        before = STEM
        for number, (width, count) in enumerate(zip(widths, (4, 8, 4), strict=False), start=1):
            blocks = nn.Sequential(HalvingBlock(before, width), *(SplitBlock(width) for _ in range(count - 1)))
            setattr(self, f"layer{number}", blocks)
            before = width
        self.conv2, self.bn2 = _conv(before, widths[3]), nn.BatchNorm2d(widths[3])
        self.linear = nn.Linear(widths[3], classes)
        initialise(self)

    def features(self, images: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, last width, H / 8, W / 8]."""
        x = F.relu(self.bn1(self.conv1(images)))
        for number in (1, 2, 3):
            x = self.get_submodule(f"layer{number}")(x)
        return F.relu(self.bn2(self.conv2(x)))

    def head(self, pooled: Tensor) -> Tensor:
        """[B, last width] -> [B, C]."""
        logits: Tensor = self.linear(pooled)
        return logits
