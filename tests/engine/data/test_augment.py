"""Augmentation: what it does to an image, and that this is a function of (seed, epoch, image) alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.data.augment import Augmentation, FixedViews, crop
from engine.randomness import uniform


def noise(count: int, channels: int = 2, height: int = 7, width: int = 5) -> Tensor:
    return torch.randint(1, 256, (count, channels, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def reference(image: Tensor, padding: int, row: int, column: int, flip: bool) -> list[list[list[int]]]:
    """One image in plain Python: the window of the zero-padded image whose corner is (row, column), then mirrored."""
    channels, height, width = image.shape
    values = image.tolist()
    result = []
    for c in range(channels):
        rows = []
        for y in range(height):
            line = []
            for x in range(width):
                at_y, at_x = y + row - padding, x + column - padding
                line.append(values[c][at_y][at_x] if 0 <= at_y < height and 0 <= at_x < width else 0)
            rows.append(line[::-1] if flip else line)
        result.append(rows)
    return result


@pytest.mark.parametrize(("padding", "flip"), [(1, False), (2, True), (0, True), (4, True)])
def test_equals_plain_python(padding: int, flip: bool) -> None:
    pixels, indices = noise(120), torch.arange(100, 220)
    augmentation = Augmentation(padding, flip)
    result = augmentation(pixels, augmentation.draws(indices, seed=5, epoch=3))
    draws = uniform(indices, 3, 5, "augmentation", 3)
    seen = set()
    for image, (down, right, mirror), got in zip(pixels, draws.tolist(), result, strict=True):
        row, column = int(down * (2 * padding + 1)), int(right * (2 * padding + 1))
        seen.add((row, column))
        assert got.tolist() == reference(image, padding, row, column, flip and mirror < 0.5)
    assert len(seen) >= min(9, (2 * padding + 1) ** 2)


def test_crop_equals_slices() -> None:
    padded = noise(6, 3, 9, 8)
    corners = torch.tensor([[0, 0], [3, 2], [1, 0], [0, 2], [2, 1], [3, 0]])
    result = crop(padded, corners, 6, 6)
    for image, (row, column), got in zip(padded, corners.tolist(), result, strict=True):
        assert torch.equal(got, image[:, row : row + 6, column : column + 6])


def test_nothing_asked_nothing_done() -> None:
    pixels = noise(10)
    assert torch.equal(Augmentation(0, False)(pixels, Augmentation(0, False).draws(torch.arange(10), 0, 0)), pixels)


def test_the_pixels_given_stay_as_they_were() -> None:
    pixels = noise(10)
    before = pixels.clone()
    augmentation = Augmentation(2, True)
    augmentation(pixels, augmentation.draws(torch.arange(10), 0, 0))
    assert torch.equal(pixels, before)


def test_order_and_company_do_not_matter() -> None:
    augmentation = Augmentation(2, True)
    pixels, indices = noise(30), torch.arange(30)
    whole = augmentation(pixels, augmentation.draws(indices, 1, 2))
    shuffled = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    assert torch.equal(augmentation(pixels[shuffled], augmentation.draws(indices[shuffled], 1, 2)), whole[shuffled])
    assert torch.equal(augmentation(pixels[4:5], augmentation.draws(indices[4:5], 1, 2)), whole[4:5])


def test_seed_epoch_and_image_matter() -> None:
    augmentation = Augmentation(2, True)
    pixels = noise(1).expand(30, -1, -1, -1)
    indices = torch.arange(30)
    result = augmentation(pixels, augmentation.draws(indices, 1, 2))
    assert not torch.equal(result, augmentation(pixels, augmentation.draws(indices, 2, 2)))
    assert not torch.equal(result, augmentation(pixels, augmentation.draws(indices, 1, 3)))
    assert not torch.equal(result, augmentation(pixels, augmentation.draws(indices + 30, 1, 2)))
    assert len({tuple(image.flatten().tolist()) for image in result}) > 15


def test_about_half_are_mirrored() -> None:
    pixels = noise(4000, 1, 3, 3)
    augmentation = Augmentation(0, True)
    result = augmentation(pixels, augmentation.draws(torch.arange(4000), 0, 0))
    mirrored = (result == pixels.flip(3)).flatten(1).all(1) & ~(result == pixels).flatten(1).all(1)
    # Five standard deviations of 4,000 fair draws are 158.
    assert abs(int(mirrored.sum()) - 2000) < 160


def test_every_shift_is_as_likely() -> None:
    pixels = torch.zeros(5000, 1, 5, 5, dtype=torch.uint8)
    pixels[:, 0, 2, 2] = 1
    augmentation = Augmentation(2, False)
    result = augmentation(pixels, augmentation.draws(torch.arange(5000), 0, 0))
    counts = result[:, 0].sum(0, dtype=torch.int64)
    assert int(counts.sum()) == 5000
    # 200 expected at each of 25 places, standard deviation 14.
    assert int(counts.min()) > 130
    assert int(counts.max()) < 270


def test_over_as_many_epochs_as_there_are_views_an_image_shows_each_once() -> None:
    fixed = FixedViews(Augmentation(2, True), 5)
    indices = torch.arange(1000)
    for first in (0, 3, 17):
        numbers = torch.stack([fixed.numbers(indices, 7, epoch) for epoch in range(first, first + 5)])
        assert torch.equal(numbers.sort(0).values, torch.arange(5)[:, None].expand(5, 1000))
    counts = fixed.numbers(indices, 7, 0).bincount(minlength=5)
    assert int(counts.min()) > 140  # 200 expected, standard deviation 13
    assert not torch.equal(fixed.numbers(indices, 7, 0), fixed.numbers(indices, 8, 0))


def test_a_view_is_of_image_and_number_alone() -> None:
    fixed = FixedViews(Augmentation(2, True), 5)
    pixels = noise(1).expand(40, -1, -1, -1)
    indices, views = torch.arange(40), torch.arange(40) % 5
    result = fixed(pixels, indices, views)
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    assert torch.equal(fixed(pixels[shuffled], indices[shuffled], views[shuffled]), result[shuffled])
    assert not torch.equal(fixed(pixels, indices, (views + 1) % 5), result)
    assert not torch.equal(fixed(pixels, indices + 40, views), result)
    assert torch.equal(FixedViews(None, 5)(pixels, indices, views), pixels)


def test_views_have_every_shift_as_often() -> None:
    pixels = torch.zeros(5000, 1, 5, 5, dtype=torch.uint8)
    pixels[:, 0, 2, 2] = 1
    for view in (0, 1, 999):
        augmentation = Augmentation(2, False)
        result = augmentation(pixels, augmentation.view_draws(torch.arange(5000), torch.full((5000,), view)))
        counts = result[:, 0].sum(0, dtype=torch.int64)
        assert int(counts.min()) > 130
        assert int(counts.max()) < 270
