"""The order of training images that are read a few shards at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from engine.randomness import permutation

WINDOW = 8  # shards that are shuffled together


def order_by_shards(shards: Tensor, seed: int, epoch: int) -> Tensor:
    """[N] the number of each image's shard -> [N] int64, a permutation: shards in random order, and the images of each WINDOW of
    them in random order. A function of (seed, epoch) and of which image is in which shard.
    """
    count = int(shards.max()) + 1
    turn = torch.empty(count, dtype=torch.int64)
    turn[permutation(count, seed, "order of shards", epoch)] = torch.arange(count)
    windows = turn[shards] // WINDOW
    order = torch.argsort(windows, stable=True)
    parts = torch.split(order, torch.bincount(windows).tolist())
    mixed = [part[permutation(len(part), seed, "order within shards", epoch, number)] for number, part in enumerate(parts)]
    return torch.cat(mixed)
