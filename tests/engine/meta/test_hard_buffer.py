"""The hard buffer: it fills, then only what was wrong replaces, at the places told, for any sizes."""

from __future__ import annotations

import pytest
import torch

from engine.meta.hard_buffer import HardBuffer
from engine.out_of_memory import TooLargeError


def offer(buffer: HardBuffer, values: list[int], wrong: list[bool], order: list[int]) -> None:
    column = torch.tensor(values)
    buffer.offer([column, column[:, None] * torch.ones(1, 3)], torch.tensor(wrong), torch.tensor(order))


def test_fills_then_replaces_only_what_was_wrong() -> None:
    buffer = HardBuffer(5)
    offer(buffer, [1, 2, 3], [False, False, False], [0, 1, 2, 3, 4])
    assert not buffer.full
    assert buffer.rows[0].tolist() == [1, 2, 3, 0, 0]
    # Two find room; the third is wrong and takes the first place of the order.
    offer(buffer, [4, 5, 6], [False, False, True], [1, 0, 2, 3, 4])
    assert buffer.full
    assert buffer.rows[0].tolist() == [1, 6, 3, 4, 5]
    offer(buffer, [7, 8, 9], [True, False, True], [4, 3, 2, 1, 0])
    assert buffer.rows[0].tolist() == [1, 6, 9, 4, 7]
    assert buffer.rows[1][:, 2].tolist() == [1, 6, 9, 4, 7]


@pytest.mark.parametrize(("size", "batch"), [(7, 3), (256, 64), (100, 64), (64, 64)])
def test_any_sizes_fill_and_stay(size: int, batch: int) -> None:
    buffer = HardBuffer(size)
    for number in range(12):
        order = torch.randperm(size, generator=torch.Generator().manual_seed(number))
        buffer.offer([torch.full((batch,), number)], torch.ones(batch, dtype=torch.bool), order)
    assert buffer.count == size == len(buffer.rows[0])
    assert (buffer.rows[0] == 11).sum() == batch


def test_one_that_no_memory_holds_is_told_by_its_setting() -> None:
    batch = [torch.zeros(2, 1 << 20)]
    with pytest.raises(TooLargeError, match=r"out of memory in the hard buffer with method.meta.buffer_size 1073741824 .*half$"):
        HardBuffer(1 << 30).offer(batch, torch.ones(2, dtype=torch.bool), torch.arange(2))


def test_draws_rows_of_all_tensors_together() -> None:
    buffer = HardBuffer(4)
    offer(buffer, [1, 2, 3, 4], [False] * 4, [0, 1, 2, 3])
    first, second = buffer.draw(torch.tensor([3, 1]))
    assert first.tolist() == [4, 2]
    assert second[:, 0].tolist() == [4, 2]
