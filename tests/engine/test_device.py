"""What float32 means, and how a GPU is called."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.presets import tiny

from engine.bench.subjects import _by_default
from engine.device import gpu_uuid, resolve_device
from engine.errors import UserError
from engine.origin import made_with
from engine.preset import HardwarePart


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)


def test_a_run_never_rounds_to_tf32() -> None:
    """PyTorch lets a GPU's convolutions do so."""
    assert torch.backends.cudnn.allow_tf32
    resolve_device(HardwarePart(device="cpu"))
    assert not torch.backends.cudnn.allow_tf32


def test_the_benchmark_gives_public_code_what_pytorch_gives_it() -> None:
    resolve_device(HardwarePart(device="cpu"))
    seen: list[bool] = []
    _by_default(lambda: seen.append(torch.backends.cudnn.allow_tf32))()
    assert seen == [True]
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_more_processes_than_gpus_are_refused_by_each_of_them(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    for local in range(4):
        with pytest.raises(UserError, match=r"4 processes .* it has 2; --gpus 2 fits: 2 x train.batch_size images a step"):
            resolve_device(HardwarePart(device=device), local, 4)
    assert [resolve_device(HardwarePart(device=device), local, 2).index for local in range(2)] == [0, 1]


def test_a_run_writes_down_which_gpu_it_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = SimpleNamespace(uuid="8f2d4c1e-0000-1111-2222-333344445555")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    assert made_with(tiny(), torch.device("cuda", 0), tmp_path)["gpu"] == f"GPU-{found.uuid}"
    assert made_with(tiny(), torch.device("cpu"), tmp_path)["gpu"] is None
    found = SimpleNamespace()  # of an older release of PyTorch
    assert gpu_uuid(torch.device("cuda", 0)) is None
