"""Test images as a model is shown them: the ones that are meant, from files and from shards, prepared as the model wants them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.picture_sets import pictures
from support.shards import shards

from engine.data import load_images
from engine.data.images import AnySplit
from engine.pictures import decode
from engine.preprocessing import Preprocessing
from engine.preset import DatasetPart
from engine.shipping.material import batches, drawn, spread

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


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "resize"), [(8, 8), (32, 37), (32, 40)])
def test_pictures_in_files_are_cut_as_predict_cuts_them(tmp_path: Path, channels: int, size: int, resize: int) -> None:
    """Whatever data set the model is of: its file says how."""
    pictures(tmp_path, {"train": 2, "test": 2})
    images = load_images(DatasetPart(name="imagefolder", path=str(tmp_path)), tmp_path, CPU, 0)
    prepared = Preprocessing(channels, size, resize, (0.0,) * channels, (1 / 255,) * channels)
    paths = sorted(tmp_path.glob("test/*/*.jpg"))
    for found, path in zip(next(batches(images.test, prepared, len(paths))).images, paths, strict=True):
        wanted = torch.tensor(prepared.pixels(decode(str(path)))).float()
        # Pillow makes grey before it scales, and rounds in each direction.
        assert (found - wanted).abs().max() <= (2 if channels == 1 else 0)
