"""Randomness by position: every random number is a function of where it is used, never of what was drawn before it.

So nothing needs saving for an exact resume, and a metric does not change because another part drew a number more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.position_key import key as key

_GOLDEN = -7046029254386353131  # 2**64 / golden ratio, as a signed 64-bit integer
_MIX_1 = -4658895280553007687
_MIX_2 = -7723592293110705685


def generator(seed: int, purpose: str, *position: int | str) -> torch.Generator:
    """A CPU generator for one use of randomness."""
    return torch.Generator().manual_seed(key(seed, purpose, *position))


def permutation(n: int, seed: int, purpose: str, *position: int | str) -> Tensor:
    """[n], int64: the numbers 0 to n - 1 in random order."""
    return torch.randperm(n, generator=generator(seed, purpose, *position))


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift right of 64-bit integers: torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def uniform(indices: Tensor, draws: int, seed: int, purpose: str, *position: int | str) -> Tensor:
    """[B] sample indices -> [B, draws] float32 in [0, 1), each a function of its sample's index and the position.

    Computed where `indices` lies, in integers, so every device gives the same numbers. The mixing is SplitMix64's finaliser
    (Steele, Lea & Flood, 2014) over a counter.
    """
    start = key(seed, purpose, *position)
    draw = torch.arange(draws, device=indices.device, dtype=torch.int64)
    x = _mix(indices.to(torch.int64)[:, None] * _GOLDEN + start)
    x = _mix(x + (draw + 1) * _GOLDEN)
    return _shift(x, 40).to(torch.float32) / 2**24


def uniform_at(indices: Tensor, turns: Tensor, draws: int, seed: int, purpose: str) -> Tensor:
    """As `uniform`, but each sample has a position of its own: [B] indices and [B] turns (numbers >= 0) -> [B, draws]."""
    draw = torch.arange(draws, device=indices.device, dtype=torch.int64)
    x = _mix(indices.to(torch.int64) * _GOLDEN + key(seed, purpose))
    x = _mix(x + (turns.to(torch.int64) + 1) * _GOLDEN)
    x = _mix(x[:, None] + (draw + 1) * _GOLDEN)
    return _shift(x, 40).to(torch.float32) / 2**24


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _MIX_1
    x = (x ^ _shift(x, 27)) * _MIX_2
    return x ^ _shift(x, 31)
