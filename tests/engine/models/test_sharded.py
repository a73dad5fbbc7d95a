"""Teachers that two processes share say what whole ones say, and each holds half of them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from support.sharded import CPU, TEACHERS, ask

from engine.errors import UserError
from engine.models.sharded import ShardedPanel
from engine.ranks import ALONE


@pytest.mark.slow
def test_two_ranks_share_teachers(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(free.getsockname()[1]))
    mp.spawn(ask, (2, tmp_path), 2)
    ranks = [torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]
    for found in ranks:
        differences = {key: value for key, value in found.items() if isinstance(value, float)}
        assert len(differences) == 2 * 2 * (len(TEACHERS) + 1)
        for key, value in differences.items():
            assert value < (0.02 if key.endswith("True") else 1e-5), key
        assert found["heads"]
        assert not found["gradients False"]
        assert not found["gradients True"]
    for together in zip(*(found["shares False"] for found in ranks), strict=True):
        held, whole = [own for own, _ in together], together[0][1]
        assert sum(held) == whole
        assert max(held) < 0.6 * whole


def test_one_alone_has_nobody_to_share_with() -> None:
    with pytest.raises(UserError, match="there is one alone"):
        ShardedPanel([], CPU, ALONE)
