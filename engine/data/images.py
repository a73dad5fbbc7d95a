"""Splits of a data set, those resident on the training device above all, and the batches that are drawn from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from engine.catalog import DatasetFacts
from engine.data.augment import Augmentation, FixedViews, ResizedCrop
from engine.data.decoders import Decoders
from engine.data.label_noise import noisy_labels
from engine.data.troubles import Troubles
from engine.dataset_facts import Normalisation
from engine.randomness import permutation


class Batch(NamedTuple):
    """B images, ready for a network."""

    images: Tensor  # [B, channels, H, W], float32, normalised
    labels: Tensor  # [B], int64
    indices: Tensor | None = None  # [B], int64, on the CPU: which images of the split these are
    views: Tensor | None = None  # [B], int64, on the CPU: which fixed view of each; None where views are not fixed


class Share(NamedTuple):
    """Which batches are one process's of several that train together: every `of`-th, from `number` on."""

    number: int = 0
    of: int = 1


WHOLE = Share()
LEFT_OUT = -100  # the label of an image that cannot be read: no measurement counts it
# Several batches are augmented at once, since a small kernel costs what its launch costs.
AT_ONCE = 16 << 20  # bytes of float32 images
MOST_AT_ONCE = 16  # batches
_EXACT = 100_000_000  # numbers: statistics of more are reckoned in integers, a piece at a time
Augmenting = Augmentation | ResizedCrop | FixedViews | None


class AnySplit(Protocol):
    """What trainings and measurements need of some of a data set's images, wherever those lie."""

    @property
    def labels(self) -> Tensor:
        """[N], int64, on the training device; LEFT_OUT for an image that turned out to be unreadable."""

    @property
    def mean(self) -> Tensor:
        """[channels, 1, 1], of the training images, on the scale of 0 to 255; as `std`."""

    @property
    def std(self) -> Tensor:
        """[channels, 1, 1]."""

    def __len__(self) -> int: ...

    def in_order(self, size: int, share: Share = WHOLE) -> Iterator[Batch]:
        """The share's batches of all images, as they are, `size` at a time."""

    def shuffled(
        self, size: int, seed: int, epoch: int, augmentation: Augmenting, start: int = 0, share: Share = WHOLE
    ) -> Iterator[Batch]:
        """The epoch's batches from number `start` on; one for each share at a time. Images that do not fill a last one for
        every share are left out.

        The order is a function of (seed, epoch); what augmentation does to an image, of (seed, epoch, image).
        """

    def viewed(self, several: Iterable[Tensor], fixed: FixedViews, view: int) -> Iterator[Batch]:
        """One fixed view of each of the images `indices` [B], for several of these in turn. The batch's indices are others where
        images are shown in the place of broken ones.
        """

    def leave_out(self, indices: Sequence[int], why: str) -> None:
        """From now on other images take the place of these in training, as they do where some turn out to be broken."""

    def labelled(self, labels: Tensor) -> AnySplit:
        """The same images with other labels [N]."""

    def fingerprint(self) -> Iterator[Tensor]:
        """All that decides what networks see of these images, but for the augmentation."""


def batches_of(count: int, size: int, seed: int, epoch: int, share: Share = WHOLE, order: Tensor | None = None) -> Tensor:
    """[batches, size] int64, on the CPU: which of `count` images the epoch's batches of one share show, in `order` [count] if
    one is given.
    """
    together = share.of * size
    order = permutation(count, seed, "order", epoch) if order is None else order
    order = order[: count // together * together]
    return order.view(-1, share.of, size)[:, share.number]


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

    def in_order(self, size: int, share: Share = WHOLE) -> Iterator[Batch]:
        """See AnySplit."""
        for start in range(share.number * size, len(self), share.of * size):
            yield self.ready(self.pixels[start : start + size], self.labels[start : start + size])

    def shuffled(
        self, size: int, seed: int, epoch: int, augmentation: Augmenting, start: int = 0, share: Share = WHOLE
    ) -> Iterator[Batch]:
        """See AnySplit."""
        order = batches_of(len(self), size, seed, epoch, share)
        fixed = augmentation if isinstance(augmentation, FixedViews) else None
        views = fixed.numbers(order.flatten(), seed, epoch).view(order.shape) if fixed else torch.zeros_like(order)
        here, views_here = (t.to(self.labels.device, non_blocking=True) for t in (order, views))
        own = fixed.augmentation if fixed else augmentation
        if isinstance(own, Augmentation):  # drawn for the whole epoch at once: a batch's would be dozens of small kernels
            of, turns = here.flatten(), views_here.flatten()
            draws = (own.view_draws(of, turns) if fixed else own.draws(of, seed, epoch)).view(*here.shape, -1)
        together = min(max(1, AT_ONCE // max(1, 4 * size * self.pixels.shape[1:].numel())), MOST_AT_ONCE)
        for first in range(start, len(order), together):
            several = range(first, min(first + together, len(order)))
            chosen = here[first : several.stop].flatten()
            pixels = self.pixels[chosen]
            if isinstance(own, Augmentation):
                pixels = own(pixels, draws[first : several.stop].flatten(0, 1))
            images, labels = self.ready(pixels, self.labels[chosen])[:2]
            for number, own_images, own_labels in zip(several, torch.split(images, size), torch.split(labels, size), strict=True):
                yield Batch(own_images, own_labels, order[number], views[number] if fixed else None)

    def viewed(self, several: Iterable[Tensor], fixed: FixedViews, view: int) -> Iterator[Batch]:
        """See AnySplit."""
        for indices in several:
            here = indices.to(self.labels.device, non_blocking=True)
            pixels = fixed(self.pixels[here], here, torch.full_like(here, view))
            yield self.ready(pixels, self.labels[here])._replace(indices=indices)

    def leave_out(self, indices: Sequence[int], why: str) -> None:
        """See AnySplit."""
        assert not indices, "images in memory are whole"

    def labelled(self, labels: Tensor) -> Split:
        """See AnySplit."""
        return replace(self, labels=labels)

    def fingerprint(self) -> Iterator[Tensor]:
        """See AnySplit."""
        yield from (self.pixels, self.labels, self.mean, self.std)


@dataclass(frozen=True, slots=True)
class Images:
    """A data set, split: nothing is trained on but `train`, nothing chosen on but `validation`, nothing reported but `test`."""

    facts: DatasetFacts
    train: AnySplit
    validation: AnySplit
    test: AnySplit
    augmentation: Augmentation | ResizedCrop
    views: int | None = None  # how many fixed views of each training image are shown; None: a new one every epoch
    troubles: Troubles = field(default_factory=Troubles)  # what could not be read, as it is found out
    decoders: Decoders | None = None  # where pictures lie in files

    def augmenting(self, wanted: bool) -> Augmenting:
        """What is done to training images, if anything is wanted."""
        own = self.augmentation if wanted else None
        return own if self.views is None else FixedViews(own, self.views)

    def with_label_noise(self, share: float, seed: int) -> Images:
        """The same with a share of the training labels replaced; validation and test stay as they are."""
        if not share:
            return self
        labels = noisy_labels(self.train.labels, self.classes, share, seed)
        return replace(self, train=self.train.labelled(labels))

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.facts.classes)

    @property
    def normalised(self) -> Normalisation:
        """How images are, as networks are given them."""
        return Normalisation(*(tuple((v / 255).flatten().tolist()) for v in (self.train.mean.double(), self.train.std.double())))

    def close(self) -> None:
        """Ends the processes that decode, if there are any; says how much was broken."""
        if self.decoders is not None:
            self.decoders.close()
        self.troubles.conclude()

    def choosing(self, select_on: str) -> AnySplit:
        """The split that chooses the best epoch."""
        return self.test if select_on == "test" else self.validation


def split_images(
    facts: DatasetFacts,
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
    held, kept = split_numbers(len(labels), validation_fraction, train_images, split_seed)
    training = pixels[kept]
    if facts.mean is not None and facts.std is not None:
        mean, std = published_statistics(facts, device)
    else:
        mean, std = (value[:, None, None].to(torch.float32).to(device) for value in _statistics(training))

    def split(pixels: Tensor, labels: Tensor) -> Split:
        return Split(pixels.to(device), labels.to(device), mean, std)

    return Images(
        facts=facts,
        train=split(training, labels[kept]),
        validation=split(pixels[held], labels[held]),
        test=split(*test),
        augmentation=Augmentation(facts.shift, facts.flip),
    )


def split_numbers(count: int, validation_fraction: float, train_images: int | None, seed: int) -> tuple[Tensor, Tensor]:
    """Which of `count` images are held out for validation, and which are trained on."""
    order = permutation(count, seed, "validation split")
    held = max(1, round(count * validation_fraction))
    return order[:held], order[held:][:train_images]


def published_statistics(facts: DatasetFacts, device: torch.device) -> tuple[Tensor, Tensor]:
    """The catalogue's mean and standard deviation, [channels, 1, 1], on the scale of 0 to 255."""
    assert facts.mean is not None
    assert facts.std is not None
    mean, std = (torch.tensor(value, dtype=torch.float64) * 255 for value in (facts.mean, facts.std))
    return mean[:, None, None].to(torch.float32).to(device), std[:, None, None].to(torch.float32).to(device)


def _statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, [channels] float64 each: the same numbers wherever the training runs."""
    if pixels.numel() <= _EXACT:
        spread = pixels.to(torch.float64)
        return spread.mean((0, 2, 3)), spread.std((0, 2, 3)).clamp(min=1.0)
    first = torch.zeros(pixels.shape[1], dtype=torch.int64)
    second = torch.zeros_like(first)
    for start in range(0, len(pixels), 1024):
        piece = pixels[start : start + 1024]
        whole = piece.to(torch.int64)
        first += whole.sum((0, 2, 3))
        second += whole.square().sum((0, 2, 3))
    count = pixels.numel() // pixels.shape[1]
    mean = first.to(torch.float64) / count
    variance = (second.to(torch.float64) - count * mean.square()) / (count - 1)
    return mean, variance.clamp(min=0).sqrt().clamp(min=1.0)
