"""A teacher trained by several processes together, whose store does not do what it is asked."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.preset import TeacherPart
from engine.ranks import ProcessGroup
from engine.teachers.shared_store import SharedStore, SpareStore
from support.classroom import PHASE, RECIPE, another_run_is_first, classroom


def taught_by_rank(rank: int, size: int, port: int, trouble: str, folder: Path) -> None:
    """Leaves in `folder` what this rank has for the teacher. `trouble`: "first" (another run is), "full" (the store), "all"."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    ranks = ProcessGroup(rank, size)
    if trouble == "first" and ranks.first:
        another_run_is_first(pytest.MonkeyPatch())
    store, spare = SharedStore(folder / "store", ranks), SpareStore(folder / "run" / "teachers", ranks)
    said: list[object] = []
    room = replace(classroom(store.root), store=store, spare=spare, ranks=ranks, begun_with=size, emit=said.append)
    teacher = room.teacher(TeacherPart(arch="resnet8", seed=0, train=RECIPE), PHASE)
    found = {
        "source": teacher.source,
        "weights": teacher.model.state_dict(),
        "logits": teacher.logits,
        "said": list(map(str, said)),
    }
    torch.save(found, folder / f"rank-{rank}.pt")
    ranks.close()
