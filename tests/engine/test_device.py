"""What float32 means."""

from __future__ import annotations

import pytest
import torch

from engine.bench.subjects import _by_default
from engine.device import resolve_device
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
