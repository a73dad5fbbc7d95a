"""Several processes that train together come where one comes that has all their batches."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from support.ranks import CASES, train_joined, train_rank

# With BatchNorm, AEKD's joined batch is not the sum of its parts: the weights are of one gradient, the statistics of each rank.
TRAININGS = [(name, False) for name in CASES] + [(name, True) for name in CASES if name != "aekd"]


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_ranks_come_where_one_process_comes(size: int, tmp_path: Path) -> None:
    check(TRAININGS, size, 20, tmp_path)


@pytest.mark.slow
def test_two_ranks_come_where_one_process_comes(tmp_path: Path) -> None:
    """The methods that exchange more than the gradient of a training step."""
    check([("mmkd", False), ("mmkd", True), ("joint", False), ("aekd", False)], 2, 8, tmp_path)


def check(trainings: list[tuple[str, bool]], size: int, steps: int, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(free.getsockname()[1]))
    mp.spawn(train_rank, (size, trainings, steps, tmp_path), size)
    ranks = [torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(size)]
    for name, batch_norm in trainings:
        expected = train_joined(name, batch_norm, size, steps)
        assert sum(key.startswith("hypergradient") for key in expected) == (steps // 4 if name == "mmkd" else 0)
        first, *others = [found[name, batch_norm] for found in ranks]
        assert first.keys() == expected.keys()
        for key, value in expected.items():
            scale = max(float(value.abs().max()), 1.0)
            assert float((first[key] - value).abs().max()) <= 1e-9 * scale, (name, batch_norm, key)
            assert all(torch.equal(other[key], first[key]) for other in others), (name, key)
