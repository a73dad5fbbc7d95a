"""Test images as a model is shown them: the ones that are meant, from files and from shards, prepared as the model wants them."""

from __future__ import annotations

from pathlib import Path

import torch
from support.shards import shards

from engine.data import load_images
from engine.data.images import AnySplit
from engine.preset import DatasetPart
from engine.shipping.material import drawn, spread

CPU = torch.device("cpu")


def pixels(split: AnySplit) -> list[torch.Tensor]:
    return [image for batch in split.in_order(4) for image in batch.images]


def test_some_pictures_of_shards_are_read_where_they_lie(tmp_path: Path) -> None:
    """As an export takes some of the test images, and, to quantise, of the training images."""
    shards(tmp_path)
    images = load_images(DatasetPart(name="webdataset", path=str(tmp_path), size=32, shuffle="shards"), tmp_path, CPU, 0)
    whole, some = pixels(images.test), spread(images.test, 3)
    assert all(torch.equal(found, whole[number]) for found, number in zip(pixels(some), (0, 2, 5), strict=True))
    assert some.labels.tolist() == images.test.labels[[0, 2, 5]].tolist()
    whole, few = pixels(images.train), drawn(images.train, 4, "a test")
    assert all(any(torch.equal(found, one) for one in whole) for found in pixels(few))
    assert [batch.images.shape[0] for batch in few.shuffled(2, 0, 0, None)] == [2, 2]
