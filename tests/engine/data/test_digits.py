"""The digits: how they are split, and that the split is the same for ever."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from engine.data import Images, Split, load_images
from engine.data.digits import FILE
from engine.errors import UserError
from engine.preset import DatasetPart

CPU = torch.device("cpu")


def digits(**settings: object) -> Images:
    return load_images(DatasetPart(name="digits", **settings), Path("/nowhere"), CPU)


def rows(split: Split) -> Counter[bytes]:
    """The images with their labels, however ordered."""
    return Counter(
        pixels.tobytes() + bytes([label]) for pixels, label in zip(split.pixels.numpy(), split.labels.tolist(), strict=True)
    )


def same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a, b)


def test_sizes() -> None:
    images = digits()
    assert (len(images.train), len(images.validation), len(images.test)) == (1080, 120, 597)
    assert images.train.pixels.shape == (1080, 1, 8, 8)
    assert images.train.pixels.dtype == torch.uint8
    assert images.train.labels.dtype == torch.int64
    assert images.classes == 10


@pytest.mark.parametrize("file", [FILE, "where/it/was.csv.gz"])
def test_the_three_splits_are_scikit_learns_images_once_each(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.data.digits.FILE", file)
    images = digits()
    bunch = load_digits()
    together = rows(images.train) + rows(images.validation) + rows(images.test)
    pixels = (bunch.images * 15).astype("uint8")
    assert together == Counter(image.tobytes() + bytes([label]) for image, label in zip(pixels, bunch.target, strict=True))


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_every_class_has_its_share(name: str) -> None:
    labels = getattr(digits(), name).labels
    counts = labels.bincount(minlength=10)
    assert counts.min() > 0.4 * len(labels) / 10
    assert counts.max() < 1.6 * len(labels) / 10


def test_the_same_again() -> None:
    first, second = digits(), digits()
    for name in ("train", "validation", "test"):
        assert same(getattr(first, name).pixels, getattr(second, name).pixels)
        assert same(getattr(first, name).labels, getattr(second, name).labels)


def test_the_split_is_fixed_for_ever() -> None:
    """Stored teachers and published figures stand on it."""
    images = digits()
    assert images.test.labels[:12].tolist() == [1, 8, 9, 9, 4, 3, 3, 7, 7, 1, 4, 0]
    assert images.validation.labels[:12].tolist() == [5, 8, 0, 2, 4, 2, 6, 1, 2, 8, 8, 6]


def test_split_seed_moves_the_validation_images_only() -> None:
    first, second = digits(), digits(split_seed=1)
    assert rows(first.validation) != rows(second.validation)
    assert rows(first.train) + rows(first.validation) == rows(second.train) + rows(second.validation)
    assert same(first.test.pixels, second.test.pixels)
    assert same(first.test.labels, second.test.labels)


def test_validation_fraction() -> None:
    images = digits(validation_fraction=0.25)
    assert (len(images.train), len(images.validation), len(images.test)) == (900, 300, 597)


def test_fewer_training_images_are_some_of_them_all() -> None:
    all_of_them, few = digits(), digits(train_images=100)
    assert len(few.train) == 100
    assert rows(few.train) <= rows(all_of_them.train)
    assert rows(few.validation) == rows(all_of_them.validation)


def test_more_training_images_than_there_are() -> None:
    with pytest.raises(UserError, match=r"dataset\.train_images is 1081, but digits has 1080"):
        digits(train_images=1081)


def test_batches_are_normalised_by_the_training_images_alone() -> None:
    images = digits()
    batch = next(images.train.in_order(len(images.train))).images
    assert batch.dtype == torch.float32
    assert batch.mean().item() == pytest.approx(0, abs=1e-5)
    assert batch.std().item() == pytest.approx(1, abs=1e-5)
    assert images.test.mean is images.train.mean
    assert images.test.std is images.train.std


@pytest.mark.parametrize(("select_on", "name"), [("validation", "validation"), ("test", "test")])
def test_the_split_that_chooses(select_on: str, name: str) -> None:
    images = digits()
    assert images.choosing(select_on) is getattr(images, name)
