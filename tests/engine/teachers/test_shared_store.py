"""Several processes that train a teacher together have the same one, whatever becomes of it in the store.

pytest -m slow tests/engine/teachers/test_shared_store.py
"""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from support.shared_classroom import taught_by_rank

from engine.teachers.store import TeacherStore
from engine.teachers.weights import unpack


@pytest.mark.slow
@pytest.mark.parametrize(("trouble", "where"), [("first", "store"), ("full", "run/teachers"), ("all", None)])
def test_every_process_has_the_teacher_that_is_kept(trouble: str, where: str | None, tmp_path: Path) -> None:
    if trouble != "first":
        (tmp_path / "store").write_text("a file where the store should be")
    if trouble != "all":
        (tmp_path / "run").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(taught_by_rank, (2, port, trouble, tmp_path), 2)
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["source"] == second["source"] == ("store" if trouble == "first" else "trained")
    assert torch.equal(first["logits"], second["logits"])
    assert all(torch.equal(value, second["weights"][name]) for name, value in first["weights"].items())
    if where is None:
        assert any("would have to begin anew" in line for line in first["said"])
        return
    (entry,) = TeacherStore(tmp_path / where).entries()
    kept = unpack((entry.path / "weights.safetensors").read_bytes())
    assert all(torch.equal(value, kept[name]) for name, value in first["weights"].items())
