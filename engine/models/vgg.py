"""VGG for small images: five blocks of 3x3 convolutions with BatchNorm, one linear layer. Simonyan & Zisserman, 2015.

Modules are named as in the field's repositories (block0 ... block4, classifier), so that their checkpoints fit.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from engine.models.interface import Classifier, initialise

BLOCKS = {
    "vgg8": ((64,), (128,), (256,), (512,), (512,)),
    "vgg11": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "vgg13": ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    "vgg16": ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3),
    "vgg19": ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}


class Vgg(Classifier):
    """Halves the map after each of the first three blocks, after the fourth too where images are 64 pixels or more."""

    feature_channels = 512

    def __init__(self, blocks: tuple[tuple[int, ...], ...], channels: int, classes: int) -> None:
        super().__init__()
        for number, widths in enumerate(blocks):
            layers: list[nn.Module] = []
            for width in widths:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                channels = width
            setattr(self, f"block{number}", nn.Sequential(*layers))
        self.classifier = nn.Linear(channels, classes)
        initialise(self)
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def features(self, images: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, 512, H / 8, W / 8]; a map is never halved below one pixel."""
        pools = 4 if images.shape[2] >= 64 else 3
        x = images
        for number in range(5):
            x = self.get_submodule(f"block{number}")(x)
            if number < pools and min(x.shape[2:]) > 1:
                x = F.max_pool2d(x, 2)
        return x

    def head(self, pooled: Tensor) -> Tensor:
        """[B, 512] -> [B, C]."""
        logits: Tensor = self.classifier(pooled)
        return logits
