"""Checkpoints: what comes back is what went in, damage is refused, and a crash at any call leaves a whole one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.saboteur import Crash, Saboteur
from torch import Tensor

from engine.checkpoint import load_checkpoint, save_checkpoint
from engine.errors import UserError

FACTS = {"epoch": 3, "best": {"accuracy": 0.5}, "name": "é"}


def tensors(fill: float = 1.0) -> dict[str, Tensor]:
    base = torch.full((4, 3), fill)
    return {
        "shared": base,
        "view": base[1:],
        "transposed": torch.arange(6.0).view(2, 3).T,
        "double": torch.tensor([1 / 3], dtype=torch.float64),
        "half": torch.tensor([0.1], dtype=torch.bfloat16),
        "count": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "empty": torch.empty(0, 5),
    }


def test_round_trip(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a" / "step-1", tensors(), FACTS)
    found, facts = load_checkpoint(tmp_path / "a" / "step-1")
    assert facts == FACTS
    assert found.keys() == tensors().keys()
    for name, value in tensors().items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_nothing_but_the_checkpoint_is_left(tmp_path: Path) -> None:
    for _ in range(2):
        save_checkpoint(tmp_path / "c", tensors(), FACTS)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["facts.json", "manifest.json", "tensors.safetensors"]


def test_a_later_change_of_a_tensor_does_not_reach_the_checkpoint(tmp_path: Path) -> None:
    state = {"a": torch.zeros(3)}
    save_checkpoint(tmp_path / "c", state, {})
    state["a"].fill_(9)
    assert torch.equal(load_checkpoint(tmp_path / "c")[0]["a"], torch.zeros(3))


@pytest.mark.parametrize("name", ["tensors.safetensors", "facts.json"])
@pytest.mark.parametrize("place", [0, 0.5, -1], ids=["first byte", "middle", "last byte"])
def test_a_flipped_bit_is_refused(name: str, place: float, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", tensors(), FACTS)
    path = tmp_path / "c" / name
    data = bytearray(path.read_bytes())
    data[int(place * len(data)) if place >= 0 else -1] ^= 4
    path.write_bytes(data)
    with pytest.raises(UserError, match=name):
        load_checkpoint(tmp_path / "c")


def no_file(folder: Path, name: str) -> None:
    (folder / name).unlink()


def cut_file(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])


def garbage(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"\xff\x00garbage")


def wrong_json(folder: Path, name: str) -> None:
    (folder / name).write_text("[" * 100_000 if name == "manifest.json" else "[1]")


@pytest.mark.parametrize("name", ["tensors.safetensors", "facts.json", "manifest.json"])
@pytest.mark.parametrize("damage", [no_file, cut_file, garbage, wrong_json])
def test_a_damaged_file_is_refused(damage: Callable[[Path, str], None], name: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", tensors(), FACTS)
    damage(tmp_path / "c", name)
    with pytest.raises(UserError, match="another"):
        load_checkpoint(tmp_path / "c")


def test_a_manifest_that_agrees_with_no_safetensors_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", tensors(), FACTS)
    garbage(tmp_path / "c", "tensors.safetensors")
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    data = (tmp_path / "c" / "tensors.safetensors").read_bytes()
    manifest["tensors.safetensors"]["sha256"] = hashlib.sha256(data).hexdigest()
    (tmp_path / "c" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="no whole checkpoint"):
        load_checkpoint(tmp_path / "c")


@pytest.mark.parametrize("path", ["nowhere", "file"])
def test_no_checkpoint(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="no whole checkpoint"):
        load_checkpoint(tmp_path / path)


@pytest.mark.parametrize("dead", [False, True], ids=["one call fails", "killed"])
def test_a_crash_at_any_call_leaves_the_old_one_or_the_new_one(
    dead: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "c"
    found = []
    for at in range(1, 100):
        shutil.rmtree(tmp_path)
        save_checkpoint(target, tensors(1), {"which": "old"})
        with monkeypatch.context() as context:
            saboteur = Saboteur(context, dead, at)
            with contextlib.suppress(Crash):
                save_checkpoint(target, tensors(2), {"which": "new"})
        if saboteur.calls < at:
            break
        assert dead or target.is_dir()  # who lives on puts the old one back
        content, facts = load_checkpoint(target)
        assert torch.equal(content["shared"], tensors({"old": 1, "new": 2}[facts["which"]])["shared"])
        found.append(facts["which"])
        save_checkpoint(target, tensors(3), {"which": "next"})  # what was left behind does not stand in the way
        assert load_checkpoint(target)[1] == {"which": "next"}
        assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".partial")] == ["c"]
    assert at > 15  # there were calls to fail at
    assert found[0] == "old"
    assert found == sorted(found, reverse=True)  # old until the new one is in place


def test_facts_that_are_no_json_leave_the_old_one(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c", tensors(), FACTS)
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "c", tensors(2), {"bad": object()})
    assert load_checkpoint(tmp_path / "c")[1] == FACTS
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
