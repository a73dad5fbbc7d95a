"""Batches: their order is a function of (seed, epoch), and a training can be taken up in the middle of an epoch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from engine.data import Split, images
from engine.data.augment import Augmentation, FixedViews
from engine.data.images import Share


def numbered(count: int = 23) -> Split:
    """Images of noise whose labels are their numbers."""
    pixels = torch.randint(0, 256, (count, 1, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Split(pixels, torch.arange(count), torch.full((1, 1, 1), 100.0), torch.full((1, 1, 1), 50.0))


def order(split: Split, size: int = 5, seed: int = 0, epoch: int = 0, start: int = 0) -> list[list[int]]:
    return [batch.labels.tolist() for batch in split.shuffled(size, seed, epoch, None, start)]


def test_a_last_short_batch_is_left_out_and_nothing_comes_twice() -> None:
    batches = order(numbered())
    assert [len(batch) for batch in batches] == [5] * 4
    assert len({number for batch in batches for number in batch}) == 20


def test_every_image_comes_where_the_size_divides() -> None:
    assert sorted(number for batch in order(numbered(20)) for number in batch) == list(range(20))


def test_the_order_is_of_seed_and_epoch() -> None:
    split = numbered()
    assert order(split) == order(split)
    assert order(split) != order(split, seed=1)
    assert order(split) != order(split, epoch=1)
    assert order(split, seed=1) != order(split, epoch=1)


def test_the_order_needs_no_global_generator() -> None:
    split = numbered()
    torch.manual_seed(1)
    first = order(split)
    before = torch.get_rng_state()
    torch.rand(7)
    assert order(split) == first
    torch.set_rng_state(before)
    order(split)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("together", [2, 16])
@pytest.mark.parametrize("start", range(5))
def test_start_skips_batches(start: int, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MOST_AT_ONCE", together)
    split = numbered()
    augmentation = Augmentation(1, True)
    whole = list(split.shuffled(5, 0, 0, augmentation))[start:]
    rest = list(split.shuffled(5, 0, 0, augmentation, start))
    assert len(whole) == len(rest)
    for one, other in zip(whole, rest, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_images_stay_with_their_labels() -> None:
    split = numbered()
    for batch in split.shuffled(5, 0, 0, None):
        expected = (split.pixels[batch.labels].float() - 100) / 50
        assert torch.equal(batch.images, expected)


def test_augmentation_is_of_the_image_not_of_its_batch() -> None:
    split = numbered(20)
    augmentation = Augmentation(2, True)

    def by_label(size: int) -> dict[int, Tensor]:
        found = {}
        for batch in split.shuffled(size, 3, 1, augmentation):
            found |= dict(zip(batch.labels.tolist(), batch.images, strict=True))
        return found

    small, large = by_label(4), by_label(10)
    assert small.keys() == large.keys()
    assert all(torch.equal(small[label], large[label]) for label in small)


def test_in_order() -> None:
    split = numbered()
    batches = list(split.in_order(10))
    assert [len(batch.labels) for batch in batches] == [10, 10, 3]
    assert torch.cat([batch.labels for batch in batches]).tolist() == list(range(23))
    assert torch.equal(torch.cat([batch.images for batch in batches]), (split.pixels.float() - 100) / 50)


def test_shares_are_the_whole_taken_in_turns() -> None:
    split, augmentation = numbered(), Augmentation(1, True)
    turns = list(split.shuffled(3, 4, 2, augmentation))
    shares = [list(split.shuffled(3, 4, 2, augmentation, start=1, share=Share(number, 2))) for number in range(2)]
    assert [len(share) for share in shares] == [2, 2]  # 23 // 6, but for the first
    for number, share in enumerate(shares):
        for own, batch in zip(share, turns[2 + number :: 2], strict=False):
            assert torch.equal(own.images, batch.images)
            assert torch.equal(own.labels, batch.labels)
    evaluated = [batch for number in range(2) for batch in split.in_order(5, Share(number, 2))]
    assert [batch.labels.tolist() for batch in evaluated] == [
        [0, 1, 2, 3, 4], [10, 11, 12, 13, 14], [20, 21, 22], [5, 6, 7, 8, 9], [15, 16, 17, 18, 19]
    ]  # fmt: skip


def test_a_batch_says_which_images_it_has_and_which_fixed_view_of_each() -> None:
    split = numbered()
    for batch in split.shuffled(5, 0, 0, Augmentation(1, True)):
        assert torch.equal(batch.indices, batch.labels)
        assert batch.views is None
    fixed = FixedViews(Augmentation(1, True), 3)
    for batch in split.shuffled(5, 4, 2, fixed):
        assert torch.equal(batch.indices, batch.labels)
        assert torch.equal(batch.views, fixed.numbers(batch.indices, 4, 2))
        pixels = fixed(split.pixels[batch.indices], batch.indices, batch.views)
        assert torch.equal(batch.images, split.ready(pixels, batch.labels).images)
