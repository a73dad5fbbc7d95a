"""A function that differentiates twice inside, traced and compiled for real, kept in a file and loaded again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.compiled.flat import callable_of, compile_flat, load, save
from engine.kernels import Arithmetic

pytestmark = pytest.mark.slow  # a minute of compiling


def twice(weights: list[Tensor], images: Tensor) -> dict[str, Any]:
    """A loss, its gradient, and a product of its Hessian."""
    leaves = [w.detach().requires_grad_() for w in weights]
    kernel, gamma, beta = leaves
    with torch.enable_grad(), Arithmetic(twice=True):
        x = F.batch_norm(F.conv2d(images, kernel, None, 1, 1), None, None, gamma, beta, True)
        loss = x.relu().mean((2, 3)).square().sum()
    gradient = torch.autograd.grad(loss, leaves, create_graph=True)
    product = torch.autograd.grad(gradient, leaves, [torch.ones_like(g) for g in gradient])
    return {"loss": loss.detach(), "gradient": [g.detach() for g in gradient], "product": list(product)}


def example(seed: int) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return [draw(4, 3, 3, 3), draw(4), draw(4)], draw(5, 3, 6, 6)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    artifact, structure = compile_flat(twice, example(0), threads=1)
    path = tmp_path_factory.mktemp("compiled") / "twice.bin"
    path.parent.chmod(0o700)
    umask = os.umask(0o002)  # as where each user has a group
    try:
        save(artifact, structure, path)
    finally:
        os.umask(umask)
    return callable_of(artifact, structure), path


def test_it_computes_what_it_was_made_from(compiled: tuple[Any, Path]) -> None:
    for run in (compiled[0], load(compiled[1])):
        ours, theirs = run(*example(1)), twice(*example(1))
        assert ours.keys() == theirs.keys()
        torch.testing.assert_close(ours["loss"], theirs["loss"], rtol=1e-9, atol=1e-12)
        for name in ("gradient", "product"):
            for one, other in zip(ours[name], theirs[name], strict=True):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_file_that_others_can_write_is_not_loaded(compiled: tuple[Any, Path]) -> None:
    path = compiled[1]
    path.chmod(0o622)
    try:
        with pytest.raises(PermissionError, match="other people"):
            load(path)
    finally:
        path.chmod(0o600)


def test_a_damaged_file_is_an_error(compiled: tuple[Any, Path], tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    for name in ("twice.bin", "twice.json"):
        (tmp_path / name).write_bytes(compiled[1].with_name(name).read_bytes())
    damaged = tmp_path / "twice.bin"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    with pytest.raises(Exception):  # noqa: B017, PT011  whatever PyTorch raises
        load(damaged)
