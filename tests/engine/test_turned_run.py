"""A run whose teachers are moved to the device in turn is the run whose teachers stay there, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.presets import ON_CPU, tiny

from engine import Run
from engine.models.turns import TurnPanel

SETTINGS = ("evaluate.student_alone=false", "hardware.threads=1", "train.epochs=1", ON_CPU)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store") / "teachers"


def student(folder: Path, store: Path, *settings: str) -> dict[str, torch.Tensor]:
    run = Run(tiny(*SETTINGS, *settings), folder, store=store, cache=folder.parent / "cache")
    assert run.execute().state == "done", run.result
    return load_file(folder / "student.safetensors")


@pytest.mark.parametrize("settings", [(), ("method={name: camkd}",), ("teacher_cache.views=1", "train.augment=false")])
def test_it_learns_the_same(tmp_path: Path, store: Path, settings: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    call = TurnPanel.__call__
    monkeypatch.setattr(TurnPanel, "__call__", lambda self, images: asked.append(len(images)) or call(self, images))
    moved = student(tmp_path / "moved", store, "hardware.teachers=in_turn", *settings)
    assert asked
    if (tmp_path / "cache").exists():  # else the second run would ask nobody
        (tmp_path / "cache").rename(tmp_path / "other")
    asked.clear()
    resident = student(tmp_path / "resident", store, *settings)
    assert not asked
    assert moved.keys() == resident.keys()
    assert all(torch.equal(moved[name], resident[name]) for name in moved)


def test_one_process_shares_no_teachers(tmp_path: Path, store: Path) -> None:
    result = Run(tiny(*SETTINGS, "hardware.teachers=sharded"), tmp_path / "run", store=store).execute()
    assert (result.state, result.mistake) == ("failed", True)
    assert "there is one alone" in result.message
    assert not (tmp_path / "run").exists()
