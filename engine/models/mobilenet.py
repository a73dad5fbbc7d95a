"""MobileNetV2 for small images, half as wide: inverted residual blocks. Sandler et al., 2018 (arXiv 1801.04381), table 2.

As the field's benchmark code has it: the stem and three stages halve the map, no dropout, ReLU in place of ReLU6. Modules are
named as there (conv1, blocks.1.0.conv.3, classifier.0), so that its checkpoints fit.
"""

from __future__ import annotations

from torch import Tensor, nn

from engine.models.interface import Classifier, initialise

STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
# expansion, channels at full width, blocks, stride of the first
LAST = 1280  # channels of the last map; a narrower network keeps them


def _unit(channels: int, width: int, size: int, stride: int = 1, groups: int = 1, active: bool = True) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, width, size, stride, size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(width), *([nn.ReLU()] if active else [])]


class InvertedResidual(nn.Module):
    """1x1 to `expansion` times the channels, 3x3 on each channel by itself, 1x1 to `width`; a shortcut where shapes allow."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.shortcut = stride == 1 and channels == width
        self.conv = nn.Sequential(
            *_unit(channels, inner, 1), *_unit(inner, inner, 3, stride, groups=inner), *_unit(inner, width, 1, active=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] -> [B, width, h / stride, w / stride]."""
        y: Tensor = self.conv(x)
        return x + y if self.shortcut else y


class MobileNetV2(Classifier):
    """`factor` times the paper's widths; the last map is 16 times smaller than the image."""

    feature_channels = LAST

    def __init__(self, factor: float, channels: int, classes: int) -> None:
        super().__init__()
        before = int(32 * factor)
        self.conv1 = nn.Sequential(*_unit(channels, before, 3, 2))
        stages = []
        for expansion, full, count, stride in STAGES:
            width = int(full * factor)
            blocks = [InvertedResidual(before, width, stride, expansion)]
            blocks += [InvertedResidual(width, width, 1, expansion) for _ in range(count - 1)]
            stages.append(nn.Sequential(*blocks))
            before = width
        self.blocks = nn.ModuleList(stages)
        self.conv2 = nn.Sequential(*_unit(before, LAST, 1))
        linear = nn.Linear(LAST, classes)
        self.classifier = nn.Sequential(linear)
        initialise(self)
        nn.init.normal_(linear.weight, 0, 0.01)
        nn.init.zeros_(linear.bias)

    def features(self, images: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, 1280, H / 16, W / 16]."""
        x: Tensor = self.conv1(images)
        for stage in self.blocks:
            x = stage(x)
        last: Tensor = self.conv2(x)
        return last

    def head(self, pooled: Tensor) -> Tensor:
        """[B, 1280] -> [B, C]."""
        logits: Tensor = self.classifier(pooled)
        return logits
