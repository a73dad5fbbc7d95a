"""Splits of a data set, resident on the training device, and the batches that are drawn from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from engine.catalog import DatasetFacts
from engine.data.augment import Augmentation, FixedViews
from engine.data.label_noise import noisy_labels
from engine.randomness import permutation


class Batch(NamedTuple):
    """B images, ready for a network."""

    images: Tensor  # [B, channels, H, W], float32, normalised
    labels: Tensor  # [B], int64
    indices: Tensor | None = None  # [B], int64, on the CPU: which images of the split these are
    views: Tensor | None = None  # [B], int64, on the CPU: which fixed view of each; None where views are not fixed


@dataclass(frozen=True, slots=True)
class Split:
    """Some of a data set's images, with what makes them ready for a network."""

    pixels: Tensor  # [N, channels, H, W], uint8
    labels: Tensor  # [N], int64
    mean: Tensor  # [channels, 1, 1], of the training images, on the scale of 0 to 255
    std: Tensor  # [channels, 1, 1]

    def __len__(self) -> int:
        return len(self.labels)

    def ready(self, pixels: Tensor, labels: Tensor) -> Batch:
        """Normalises uint8 pixels [B, channels, H, W]."""
        return Batch((pixels.to(self.mean.dtype) - self.mean) / self.std, labels)

    def in_order(self, size: int) -> Iterator[Batch]:
        """All images, as they are, `size` at a time."""
        for start in range(0, len(self), size):
            yield self.ready(self.pixels[start : start + size], self.labels[start : start + size])

    def shuffled(
        self, size: int, seed: int, epoch: int, augmentation: Augmentation | FixedViews | None, start: int = 0
    ) -> Iterator[Batch]:
        """The epoch's batches from number `start` on. Images that do not fill a last batch are left out.

        The order is a function of (seed, epoch); what augmentation does to an image, of (seed, epoch, image).
        """
        order = permutation(len(self), seed, "order", epoch)[: len(self) // size * size]
        fixed = augmentation if isinstance(augmentation, FixedViews) else None
        views = fixed.numbers(order, seed, epoch) if fixed else torch.zeros_like(order)
        order, views = order.view(-1, size), views.view(-1, size)
        here, views_here = order.to(self.labels.device), views.to(self.labels.device)
        for number in range(start, len(order)):
            chosen = here[number]
            pixels = self.pixels[chosen]
            if fixed is not None:
                pixels = fixed(pixels, chosen, views_here[number])
            elif isinstance(augmentation, Augmentation):
                pixels = augmentation(pixels, chosen, seed, epoch)
            batch = self.ready(pixels, self.labels[chosen])
            yield batch._replace(indices=order[number], views=views[number] if fixed else None)


@dataclass(frozen=True, slots=True)
class Images:
    """A data set, split: nothing is trained on but `train`, nothing chosen on but `validation`, nothing reported but `test`."""

    facts: DatasetFacts
    train: Split
    validation: Split
    test: Split
    augmentation: Augmentation
    views: int | None = None  # how many fixed views of each training image are shown; None: a new one every epoch

    def augmenting(self, wanted: bool) -> Augmentation | FixedViews | None:
        """What is done to training images, if anything is wanted."""
        own = self.augmentation if wanted else None
        return own if self.views is None else FixedViews(own, self.views)

    def with_label_noise(self, share: float, seed: int) -> Images:
        """The same with a share of the training labels replaced; validation and test stay as they are."""
        if not share:
            return self
        labels = noisy_labels(self.train.labels, self.classes, share, seed)
        return replace(self, train=replace(self.train, labels=labels))

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.facts.classes)

    def choosing(self, select_on: str) -> Split:
        """The split that chooses the best epoch."""
        return self.test if select_on == "test" else self.validation


def split_images(
    facts: DatasetFacts,
    augmentation: Augmentation,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    validation_fraction: float,
    train_images: int | None,
    split_seed: int,
    device: torch.device,
) -> Images:
    """Takes the validation images out of the training ones ([N, channels, H, W] uint8, [N] int64) and moves all to `device`."""
    pixels, labels = train
    order = permutation(len(labels), split_seed, "validation split")
    held = max(1, round(len(labels) * validation_fraction))
    kept = order[held:][:train_images]
    # Statistics in float64 on the CPU: the same numbers wherever the training runs.
    spread = pixels[kept].to(torch.float64)
    mean = spread.mean((0, 2, 3))[:, None, None].to(torch.float32).to(device)
    std = spread.std((0, 2, 3)).clamp(min=1.0)[:, None, None].to(torch.float32).to(device)

    def split(pixels: Tensor, labels: Tensor) -> Split:
        return Split(pixels.to(device), labels.to(device), mean, std)

    return Images(
        facts=facts,
        train=split(pixels[kept], labels[kept]),
        validation=split(pixels[order[:held]], labels[order[:held]]),
        test=split(*test),
        augmentation=augmentation,
    )
