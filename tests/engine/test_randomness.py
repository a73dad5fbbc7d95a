"""Randomness by position: the same place gives the same numbers, another place others, and they are evenly spread."""

from __future__ import annotations

import itertools

import pytest
import torch

from engine.randomness import generator, key, permutation, uniform

MASK = (1 << 64) - 1


def mixed(x: int) -> int:
    """SplitMix64's finaliser in Python's own integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def reference(index: int, draw: int, start: int) -> float:
    golden = 0x9E3779B97F4A7C15
    x = mixed((index * golden + start) & MASK)
    return (mixed((x + (draw + 1) * golden) & MASK) >> 40) / 2**24


def test_uniform_equals_plain_python() -> None:
    indices = torch.tensor([0, 1, 2, 59_999, 2**31, 2**62])
    draws = uniform(indices, 4, 7, "augmentation", 3)
    start = key(7, "augmentation", 3)
    assert draws.tolist() == [[reference(index, draw, start) for draw in range(4)] for index in indices.tolist()]


def test_uniform_is_of_the_index_not_of_its_row() -> None:
    indices = torch.arange(50)
    whole = uniform(indices, 3, 0, "x")
    assert torch.equal(uniform(indices.flip(0), 3, 0, "x"), whole.flip(0))
    assert torch.equal(uniform(torch.tensor([17]), 3, 0, "x")[0], whole[17])
    assert torch.equal(uniform(indices, 2, 0, "x"), whole[:, :2])


def test_uniform_is_evenly_spread() -> None:
    draws = uniform(torch.arange(20_000), 3, 0, "x")
    assert draws.dtype == torch.float32
    assert 0 <= draws.min() < 0.001
    assert 0.999 < draws.max() < 1
    # Standard deviations: 0.0020 of a mean, 0.0071 of a correlation; a tenth of the draws, 42.
    assert (draws.mean(0) - 0.5).abs().max() < 0.01
    assert (torch.corrcoef(draws.T) - torch.eye(3)).abs().max() < 0.035
    assert (torch.corrcoef(torch.stack((draws[:-1, 0], draws[1:, 0])))[0, 1]).abs() < 0.035
    for column in draws.T:
        assert (torch.histc(column, 10, 0, 1) - 2000).abs().max() < 220


PLACES = list(itertools.product((0, 1), ("order", "augmentation"), ((), (0,), (1,), (0, 1), (1, 0), ("1", 0, 0))))


def test_every_place_has_a_key_of_its_own() -> None:
    keys = {key(seed, purpose, *position) for seed, purpose, position in PLACES}
    assert len(keys) == len(PLACES)
    assert key(1, "x", 23) != key(1, "x", 2, 3) != key(12, "x", 3)
    assert all(0 <= k < 2**63 for k in keys)


def test_keys_are_fixed_for_ever() -> None:
    """Stored teachers and published figures stand on them."""
    assert key(0, "order", 0) == 5724104768301139219
    assert permutation(8, 0, "order", 0).tolist() == [3, 1, 6, 2, 4, 5, 7, 0]


def test_permutation() -> None:
    first = permutation(100, 3, "order", 2)
    assert first.dtype == torch.int64
    assert first.sort().values.tolist() == list(range(100))
    assert torch.equal(permutation(100, 3, "order", 2), first)
    for other in (permutation(100, 4, "order", 2), permutation(100, 3, "split", 2), permutation(100, 3, "order", 1)):
        assert not torch.equal(other, first)


def test_generators_do_not_share_a_state() -> None:
    first, second = generator(0, "x"), generator(0, "x")
    drawn = torch.rand(5, generator=first)
    assert torch.equal(torch.rand(5, generator=second), drawn)


@pytest.mark.parametrize(
    "use", [lambda: permutation(9, 0, "x"), lambda: uniform(torch.arange(9), 2, 0, "x"), lambda: generator(0, "x")]
)
def test_the_global_generator_plays_no_part(use: object) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = use()  # type: ignore[operator]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    second = use()  # type: ignore[operator]
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert torch.equal(first.get_state(), second.get_state())
