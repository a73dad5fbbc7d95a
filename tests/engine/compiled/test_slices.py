"""A batch in slices: each on a thread of its own, whatever goes wrong in one of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from engine.compiled.slices import Slices, slices_of

IMAGES = torch.arange(24.0).view(12, 2)


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_slices_come_together_in_the_batchs_order_from_threads_with_one_core_each() -> None:
    slices, seen = Slices(), set()

    def function(images: Tensor) -> list[Tensor]:
        seen.add((threading.get_ident(), torch.get_num_threads(), len(images)))
        return [images * 2, images.sum(1)]

    for _ in range(3):
        doubled, total = slices(function, IMAGES, slices_of(IMAGES))
        assert torch.equal(doubled, IMAGES * 2)
        assert torch.equal(total, IMAGES.sum(1))
    assert {one[1:] for one in seen} == {(1, 4)}
    assert threading.get_ident() not in {one[0] for one in seen}
    slices.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mmkd-slice")]


def test_the_threads_of_others_are_left_as_they_were() -> None:
    slices, later = Slices(), []
    slices(lambda images: [images], IMAGES, 3)
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    slices.close()
    assert (torch.get_num_threads(), later) == (3, [3])


def test_an_error_in_one_slice_is_told_and_the_next_batch_is_computed() -> None:
    slices = Slices()

    def function(images: Tensor) -> list[Tensor]:
        if images[0, 0] == 8:  # the second one
            raise RuntimeError("the second slice")
        return [images]

    with pytest.raises(RuntimeError, match="the second slice"):
        slices(function, IMAGES, 3)
    assert torch.equal(*slices(lambda images: [images], IMAGES, 3), IMAGES)
    slices.close()


def test_a_batch_that_cannot_be_cut_evenly_stays_whole() -> None:
    assert [slices_of(IMAGES[:count]) for count in (12, 9, 8, 3, 2)] == [3, 3, 1, 3, 1]
    (found,) = Slices()(lambda images: [images + 1], IMAGES, 1)
    assert torch.equal(found, IMAGES + 1)
