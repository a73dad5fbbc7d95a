"""The teachers' change-over: what a compiled pass says is used once it agrees with what they say themselves, and never else."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.compiled.panel import CompiledPanel
from engine.compiled.pure import PurePanel
from engine.data import Batch
from engine.models import build_model
from engine.models.panel import TeacherPanel

IMAGES = torch.randn(4, 8, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Prepared:
    """Has the uncompiled function ready, changed by `change`."""

    def __init__(self, panel: TeacherPanel, change: Any) -> None:
        self.pure, self.change, self.asked = PurePanel(panel, IMAGES[0]), change, 0

    def ready(self, part: str) -> bool:
        return True

    def start(self) -> None: ...

    def close(self) -> None: ...

    def take(self, part: str) -> Any:
        def function(tensors: list[list[Tensor]], images: Tensor) -> list[Tensor]:
            self.asked += 1
            return [self.change(t) for t in self.pure.teachers(tensors, images)]

        return function


def said(change: Any, bf16: bool = False) -> tuple[list[Tensor], list[Tensor], Prepared, CompiledPanel, list[str]]:
    """Everything said of four batches by the panel under test and by the teachers themselves."""
    panel = TeacherPanel([build_model("resnet8", 1, 10, seed=1), build_model("vgg8", 1, 10, seed=2)], bf16)
    source = Prepared(panel, change)
    told: list[str] = []
    compiled = CompiledPanel(panel, lambda images, threads: source, lambda level, text: told.append(f"{level}: {text}"), "on")
    batches = [Batch(images, torch.zeros(8, dtype=torch.int64)) for images in IMAGES]
    ours = [tensor for batch in batches for output in compiled.of(batch) for tensor in output]
    theirs = [tensor for batch in batches for output in panel(batch.images) for tensor in output]
    return ours, theirs, source, compiled, told


@pytest.mark.parametrize("bf16", [False, True])
def test_it_takes_over_after_one_batch_on_which_both_agree(bf16: bool) -> None:
    ours, theirs, source, compiled, told = said(lambda t: t, bf16)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert compiled.quick
    assert source.asked == 4
    (line,) = told
    assert re.fullmatch(r"info: compiled teachers from here on: faster, results agree to within 0\.\d+ %", line)


def only(dimensions: int) -> Any:
    """Spoils the logits alone (2), or the feature maps (4)."""
    return lambda t: t * 1.1 if t.dim() == dimensions else t


@pytest.mark.parametrize("change", [only(2), only(4), lambda t: t * torch.nan, lambda t: t[:1]])
def test_what_is_wrong_is_never_used(change: Any) -> None:
    ours, theirs, _, compiled, told = said(change)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert not compiled.quick
    (line,) = told
    assert line.startswith("warning: training goes on as before, but no faster: no compiled teachers (RuntimeError: ")


def test_how_wrong_it_is_is_told_in_percent() -> None:
    *_, told = said(lambda t: t * 1.1)
    assert told[0].endswith("(RuntimeError: they differ by 10 % in logits)")
