"""Augmentation of a whole batch at once, on the device where the batch lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.pictures import DRAWS
from engine.randomness import uniform, uniform_at

VIEWS_SEED = 0  # not the run's: views are shared between runs


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random crops of the zero-padded image, and horizontal flips where a mirrored image keeps its class."""

    padding: int
    flip: bool

    def draws(self, indices: Tensor, seed: int, epoch: int) -> Tensor:
        """What is done to the images `indices` [B]: [B, 3] in [0, 1), a function of (seed, epoch, index)."""
        return uniform(indices, 3, seed, "augmentation", epoch)

    def view_draws(self, indices: Tensor, views: Tensor) -> Tensor:
        """As `draws`, of the fixed views `views` [B], whatever the run's seed."""
        return uniform_at(indices, views, 3, VIEWS_SEED, "view")

    def __call__(self, pixels: Tensor, draws: Tensor) -> Tensor:
        """[B, channels, H, W] and what was drawn for each image, [B, 3] -> the same shape."""
        if self.padding:
            shifts = (draws[:, :2] * (2 * self.padding + 1)).long()
            pixels = crop(F.pad(pixels, [self.padding] * 4), shifts, pixels.shape[2], pixels.shape[3])
        if self.flip:
            pixels = torch.where((draws[:, 2] < 0.5)[:, None, None, None], pixels.flip(3), pixels)
        return pixels


@dataclass(frozen=True, slots=True)
class ResizedCrop:
    """Random crops of pictures in files, scaled to the size wanted, and flips; engine.pictures does them where it decodes."""

    flip: bool = True

    def draws(self, indices: Tensor, seed: int, epoch: int) -> Tensor:
        """[B] -> [B, DRAWS] in [0, 1); a function of (seed, epoch, index)."""
        return uniform(indices, DRAWS, seed, "resized crop", epoch)

    def view_draws(self, indices: Tensor, views: Tensor) -> Tensor:
        """As `draws`, of the fixed views `views` [B], whatever the run's seed."""
        return uniform_at(indices, views, DRAWS, VIEWS_SEED, "resized view")


@dataclass(frozen=True, slots=True)
class FixedViews:
    """`count` fixed views of each image, shown by turns: what was computed of them once serves every epoch and every seed."""

    augmentation: Augmentation | ResizedCrop | None  # None: the image as it is
    count: int

    def numbers(self, indices: Tensor, seed: int, epoch: int) -> Tensor:
        """Which view of each image an epoch shows, [B] int64. Over `count` epochs in a row an image shows each view once."""
        first = (uniform(indices, 1, seed, "first view")[:, 0] * self.count).long()
        return (first + epoch) % self.count

    def __call__(self, pixels: Tensor, indices: Tensor, views: Tensor) -> Tensor:
        """[B, channels, H, W] of the images `indices` [B] -> their views `views` [B]."""
        own = self.augmentation
        return own(pixels, own.view_draws(indices, views)) if isinstance(own, Augmentation) else pixels


def crop(padded: Tensor, corners: Tensor, height: int, width: int) -> Tensor:
    """[B, c, H, W] and each image's top left corner [B, 2] -> [B, c, height, width]."""
    image, down, across = (_numbers(count, padded.device) for count in (len(padded), height, width))
    image = image[:, None, None]
    rows = corners[:, :1, None] + down[:, None]
    columns = corners[:, 1:, None] + across
    return padded.permute(0, 2, 3, 1)[image, rows, columns].permute(0, 3, 1, 2).contiguous()


@lru_cache(maxsize=64)  # a GPU's small kernels cost what their launch costs, in every batch
def _numbers(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, device=device)
