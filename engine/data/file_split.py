"""A split whose pictures lie in files, decoded as they are needed: the same batches whatever decodes them, from any point on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.data.augment import FixedViews, ResizedCrop
from engine.data.decoders import PIECE, Decoders
from engine.data.images import LEFT_OUT, WHOLE, Augmenting, Batch, Share, batches_of
from engine.data.shard_order import order_by_shards
from engine.data.troubles import Troubles
from engine.errors import AwayError, UserError
from engine.listing import Listing
from engine.pictures import Decoded, Job, archive_of, away, patiently

_REPLACED = "another picture takes its place in training"
_Draws = Callable[[Tensor, Tensor], Tensor] | None  # [B] indices and [B] views -> [B, DRAWS]; None: nothing is random


@dataclass(frozen=True, slots=True)
class FileSplit:
    """Some pictures of a data set. What it has in common with other splits is AnySplit's."""

    root: Path
    listing: Listing
    labels: Tensor  # [N], int64, on the training device; LEFT_OUT for what turned out to be broken
    mean: Tensor  # [3, 1, 1]
    std: Tensor
    size: int
    decoders: Decoders
    troubles: Troubles
    broken: set[int] = field(default_factory=set)
    shards: Tensor | None = None  # [N], int64, on the CPU: the number of each picture's shard, where those are shuffled
    resize: int | None = None  # pixels of the shorter side before the middle is taken; None: as the field tests

    @classmethod
    def of(
        cls,
        root: Path,
        listing: Listing,
        statistics: tuple[Tensor, Tensor],
        size: int,
        decoders: Decoders,
        troubles: Troubles,
        by_shards: bool = False,
        resize: int | None = None,
    ) -> FileSplit:
        """On the device where the statistics are. `by_shards`: a few shards at a time are shuffled, see `order_by_shards`."""
        labels = torch.tensor(listing.labels, dtype=torch.int64, device=statistics[0].device)
        shards = None
        if by_shards:
            numbers: dict[str, int] = {}
            found = (archive_of(path)[0] for path in listing.paths)
            shards = torch.tensor([numbers.setdefault(archive, len(numbers)) for archive in found])
        return cls(root, listing, labels, *statistics, size, decoders, troubles, shards=shards, resize=resize)

    def __len__(self) -> int:
        return len(self.listing)

    def in_order(self, size: int, share: Share = WHOLE) -> Iterator[Batch]:
        """See AnySplit. A picture that cannot be read is black, and its label LEFT_OUT."""
        groups = torch.split(torch.arange(len(self)), size)[share.number :: share.of]
        decoded = self.decoders.in_order((self._jobs(group, None, group) for group in groups), size)
        for group, pieces in zip(groups, decoded, strict=True):
            for place, why in _failures(pieces).items():
                self._note(int(group[place]), why, "it is left out of the measurement")
            yield self._ready(_pixels(pieces), self.labels[group[0] : group[-1] + 1])

    def shuffled(
        self, size: int, seed: int, epoch: int, augmentation: Augmenting, start: int = 0, share: Share = WHOLE
    ) -> Iterator[Batch]:
        """See AnySplit. In the place of a picture that cannot be read comes the next one of the split that can."""
        fixed = augmentation if isinstance(augmentation, FixedViews) else None
        whole = None if self.shards is None else order_by_shards(self.shards, seed, epoch)
        order = batches_of(len(self), size, seed, epoch, share, whole)[start:]

        def draws(indices: Tensor, views: Tensor) -> Tensor:
            assert isinstance(augmentation, ResizedCrop)
            return augmentation.draws(indices, seed, epoch)

        drawn: _Draws = _view_draws(fixed) if fixed else draws if isinstance(augmentation, ResizedCrop) else None

        def views_of(indices: Tensor) -> Tensor:
            return fixed.numbers(indices, seed, epoch) if fixed else torch.zeros_like(indices)

        jobs = (self._jobs(indices, drawn, views_of(indices)) for indices in order)
        for indices, pieces in zip(order, self.decoders.in_order(jobs, size), strict=True):
            shown, pixels = self._mended(indices, pieces, drawn, views_of)
            batch = self._ready(pixels, self.labels[shown.to(self.labels.device, non_blocking=True)])
            yield batch._replace(indices=shown, views=views_of(shown) if fixed else None)

    def viewed(self, several: Iterable[Tensor], fixed: FixedViews, view: int) -> Iterator[Batch]:
        """See AnySplit. The next ones are decoded meanwhile."""
        wanted = [indices.cpu() for indices in several]
        drawn = _view_draws(fixed)

        def views_of(indices: Tensor) -> Tensor:
            return torch.full_like(indices, view)

        jobs = (self._jobs(indices, drawn, views_of(indices)) for indices in wanted)
        size = max((len(indices) for indices in wanted), default=1)
        for indices, pieces in zip(wanted, self.decoders.in_order(jobs, size), strict=True):
            shown, pixels = self._mended(indices, pieces, drawn, views_of)
            yield self._ready(pixels, self.labels[shown.to(self.labels.device, non_blocking=True)])._replace(indices=shown)

    def leave_out(self, indices: Sequence[int], why: str) -> None:
        """See AnySplit."""
        if not (new := [index for index in indices if index not in self.broken]):
            return
        for _ in self.viewed(torch.split(torch.tensor(new), PIECE), FixedViews(None, 1), 0):
            pass  # those that still are broken are told with their own reason
        for index in new:
            if index not in self.broken:
                self._note(index, why, _REPLACED)

    def labelled(self, labels: Tensor) -> FileSplit:
        """See AnySplit."""
        return replace(self, labels=labels)

    def fingerprint(self) -> Iterator[Tensor]:
        """See AnySplit. Files are known by path, length and time of change: a data set of 150 GB is not read for it.

        AwayError where one cannot be looked at now.
        """
        text = []
        known: dict[str, str] = {}
        for path in self.listing.paths:
            file = archive_of(path)[0] if self.listing.spans is not None else path
            if file not in known:
                known[file] = patiently(partial(_stamp, self.root / file))
            text.append(path + known[file])
        said = "\n".join(text).encode("utf-8", "surrogateescape")
        yield torch.frombuffer(bytearray(said), dtype=torch.uint8)
        yield torch.tensor([self.size, *([] if self.resize is None else [self.resize]), *self.listing.labels])
        yield from (self.mean, self.std)

    def _jobs(self, indices: Tensor, draws: _Draws, views: Tensor) -> list[Job]:
        numbers = None if draws is None else tuple(tuple(row) for row in draws(indices, views).tolist())
        jobs = []
        for first in range(0, len(indices), PIECE):
            own = indices[first : first + PIECE].tolist()
            paths = tuple(self.listing.paths[index] for index in own)
            spans = tuple(self.listing.span(index) for index in own)
            own_draws = numbers and numbers[first : first + PIECE]
            jobs.append(Job(str(self.root), paths, self.size, own_draws, spans=spans, resize=self.resize))
        return jobs

    def _mended(
        self, indices: Tensor, pieces: Sequence[Decoded], draws: _Draws, views_of: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, np.ndarray]:
        """Which pictures a batch shows in the end, and their pixels."""
        pixels, shown = _pixels(pieces), indices
        # What could not be read once has no label any more, even if it can be read now.
        gone = {place: "" for place, index in enumerate(indices.tolist()) if index in self.broken}
        for place, why in (gone | _failures(pieces)).items():
            shown = shown.clone() if shown is indices else shown
            index = int(indices[place])
            while True:
                if why:
                    self._note(index, why, _REPLACED)
                while index in self.broken:
                    index = (index + 1) % len(self)
                only = torch.tensor([index])
                ((found,),) = self.decoders.in_order([self._jobs(only, draws, views_of(only))], 1)
                if not found.broken:
                    break
                why = found.broken[0]
            shown[place], pixels[place] = index, found.pixels[0]
        return shown, pixels

    def _note(self, index: int, why: str, instead: str) -> None:
        if not _holds_anything(self.root):  # a file system that went away leaves an empty folder behind, or none
            raise AwayError(str(self.root / self.listing.paths[index]), f"{self.root} is empty or gone")
        self.broken.add(index)
        self.labels[index] = LEFT_OUT
        self.troubles.broken(str(self.root / self.listing.paths[index]), why, instead)
        if len(self.broken) == len(self):
            raise UserError(f"none of the {len(self):,} pictures in {self.root} that are wanted can be read; the last: {why}")

    def _ready(self, pixels: np.ndarray, labels: Tensor) -> Batch:
        """uint8 [B, size, size, 3] -> normalised [B, 3, size, size] on the device."""
        device = self.mean.device
        given = torch.from_numpy(pixels)
        given = (given.pin_memory() if device.type == "cuda" else given).to(device, non_blocking=True)
        given = given.permute(0, 3, 1, 2).contiguous()
        return Batch((given.to(self.mean.dtype) - self.mean) / self.std, labels)


def _holds_anything(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def _stamp(path: Path) -> str:
    try:
        found = path.stat()
    except OSError as error:
        if (gone := away(str(path), error)) is not None:
            raise gone from error
        return ""
    return f"\0{found.st_size}\0{found.st_mtime_ns}"


def _view_draws(fixed: FixedViews) -> _Draws:
    return fixed.augmentation.view_draws if isinstance(fixed.augmentation, ResizedCrop) else None


def _pixels(pieces: Sequence[Decoded]) -> np.ndarray:
    return np.concatenate([piece.pixels for piece in pieces])


def _failures(pieces: Sequence[Decoded]) -> dict[int, str]:
    """Why, by the place in the batch."""
    found: dict[int, str] = {}
    first = 0
    for piece in pieces:
        found |= {first + place: why for place, why in piece.broken.items()}
        first += len(piece.pixels)
    return found
