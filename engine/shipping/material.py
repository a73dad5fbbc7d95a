"""A data set's images as a model takes them: its own normalisation, and colours and size converted where they differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.data import AnySplit, Batch, Images, Split
from engine.data.file_split import FileSplit
from engine.data.images import LEFT_OUT
from engine.dataset_facts import FOLDER
from engine.errors import UserError
from engine.image_folders import draws_its_test
from engine.preprocessing import Preprocessing
from engine.randomness import permutation
from engine.shipping.facts import ModelFacts

# ITU-R BT.601's luma in 16-bit fixed point, as Pillow makes grey of RGB.
_LUMA = (19595, 38470, 7471)


def chosen(split: AnySplit, numbers: Tensor) -> AnySplit:
    """Only the images `numbers` [n] of a split, in that order."""
    if isinstance(split, FileSplit):
        here = split.labels[numbers.to(split.labels.device)]
        return replace(split, listing=split.listing.chosen(numbers.tolist()), labels=here, broken=set(), shards=None)
    assert isinstance(split, Split)
    numbers = numbers.to(split.labels.device)
    return replace(split, pixels=split.pixels[numbers], labels=split.labels[numbers])


def spread(split: AnySplit, most: int) -> AnySplit:
    """At most so many images, evenly spread over the split: files are listed class by class."""
    count = len(split)
    return split if count <= most else chosen(split, torch.arange(most) * count // most)


def drawn(split: AnySplit, most: int, purpose: str) -> AnySplit:
    """At most so many images, drawn at random; the same ones every time."""
    return chosen(split, permutation(len(split), 0, purpose)[:most])


def batches(split: AnySplit, prepared: Preprocessing, size: int) -> Iterator[Batch]:
    """All images of a split in its order, `size` at a time, as a model takes them. In the place of a broken one is a black
    one, whose label in the split becomes LEFT_OUT.
    """
    zero, one = torch.zeros_like(split.mean), torch.ones_like(split.std)
    mean, std = (
        (torch.tensor(values, dtype=torch.float64) * 255)[:, None, None].to(zero) for values in (prepared.mean, prepared.std)
    )
    if isinstance(split, FileSplit):
        files = replace(split, mean=zero, std=one, size=prepared.size, resize=prepared.resize)
        found = (batch._replace(images=coloured(batch.images, prepared)) for batch in files.in_order(size))
    else:
        assert isinstance(split, Split)
        held = replace(split, mean=zero, std=one)
        found = (batch._replace(images=converted(batch.images, prepared)) for batch in held.in_order(size))
    for batch in found:
        yield batch._replace(images=(batch.images - mean) / std)


def converted(pixels: Tensor, prepared: Preprocessing) -> Tensor:
    """[B, c, h, h] of 0 to 255 -> [B, channels, size, size], whole numbers still: scaled and cut as pictures are."""
    pixels = coloured(pixels, prepared)
    if pixels.shape[2:] != (prepared.size, prepared.size) or prepared.resize != prepared.size:
        sides, first = (prepared.resize, prepared.resize), round((prepared.resize - prepared.size) / 2)
        pixels = F.interpolate(pixels, sides, mode="bilinear", antialias=True, align_corners=False).round().clamp(0, 255)
        pixels = pixels[:, :, first : first + prepared.size, first : first + prepared.size]
    return pixels


def coloured(pixels: Tensor, prepared: Preprocessing) -> Tensor:
    """[B, c, h, h] of 0 to 255 -> [B, channels, h, h], whole numbers still."""
    if pixels.shape[1] == 3 and prepared.channels == 1:
        luma = torch.tensor(_LUMA, dtype=torch.float64, device=pixels.device)[:, None, None]
        pixels = (((pixels * luma).sum(1, keepdim=True) + 32768) / 65536).floor().to(pixels.dtype)
    elif pixels.shape[1] == 1 and prepared.channels == 3:
        pixels = pixels.expand(-1, 3, -1, -1)
    return pixels


def held_against(facts: ModelFacts, images: Images) -> tuple[AnySplit, list[str]]:
    """The test split, its labels [N] by the model's order of classes, and what has to be known where a model is measured on
    another data set than its own; nothing where they agree.

    UserError where their classes cannot be the same ones.
    """
    ours, theirs, prepared = facts.classes, images.facts.classes, facts.preprocessing
    if len(ours) != len(theirs):
        raise UserError(f"the model knows {len(ours)} classes and {images.facts.name} has {len(theirs)}; name another data set")
    test, notes = images.test, []
    if ours != theirs and set(ours) == set(theirs) and len(set(ours)) == len(ours):
        numbers = {name: number for number, name in enumerate(ours)}
        places = torch.tensor([numbers[name] for name in theirs], device=test.labels.device)
        test = test.labelled(torch.where(test.labels == LEFT_OUT, LEFT_OUT, places[test.labels.clamp(min=0)]))
        notes.append("the classes come in another order than the model's; they are told by their names")
    elif ours != theirs:
        notes.append("the classes have other names than the model's; they are taken to be the same in the same order")
    unknown = facts.split_seed is None and facts.dataset in ("", FOLDER)
    if unknown and images.facts.name == FOLDER and isinstance(test, FileSplit) and draws_its_test(test.root):
        notes.append(
            f"{test.root} has no test split, and the model does not say which fifth was kept from it: if it is of this "
            "folder, it was trained on some of these pictures, and the accuracy is too high"
        )
    given = images.facts
    if given.from_files:  # which are of any size, and prepared one by one
        if given.channels != prepared.channels:
            notes.append(
                f"images in {_colours(given.channels)} are converted to {_colours(prepared.channels)}, as the model takes them"
            )
    elif (given.channels, given.size) != (prepared.channels, prepared.size):
        notes.append(
            f"images of {given.size}x{given.size} pixels in {_colours(given.channels)} are converted to "
            f"{prepared.size}x{prepared.size} pixels in {_colours(prepared.channels)}, as the model takes them"
        )
    return test, notes


def _colours(channels: int) -> str:
    return "colour" if channels == 3 else "grey"
