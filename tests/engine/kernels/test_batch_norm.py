"""BatchNorm's derivatives, first and second, against finite differences and against PyTorch's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import grad, gradcheck, gradgradcheck

from engine.kernels import Arithmetic
from engine.kernels.batch_norm import batch_norm


def operands() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 3, 2, generator=generator, dtype=torch.float64) + 2
    return tuple(
        t.requires_grad_() for t in (x, torch.rand(4, generator=generator, dtype=torch.float64) + 0.5, x[0, :, 0, 0] * 1)
    )


def normalised(x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    return batch_norm(x, gamma, beta, 1e-5)[0]


def test_both_derivatives_by_finite_differences() -> None:
    given = tuple(t.detach().requires_grad_() for t in operands())
    assert gradcheck(normalised, given)
    assert gradgradcheck(normalised, given)


def test_both_derivatives_are_pytorchs() -> None:
    found = []
    for function in (normalised, lambda x, g, b: F.batch_norm(x, None, None, g, b, True, 0.1, 1e-5)):
        given = tuple(t.detach().requires_grad_() for t in operands())
        first = grad(function(*given).pow(3).sum(), given, create_graph=True)
        found.append((*first, *grad(sum(g.square().sum() for g in first), given)))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9)


def test_running_statistics_move_as_pytorchs_do() -> None:
    x = operands()[0].detach().float()
    plain, own = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
    for _ in range(3):
        expected = plain(x)
        with Arithmetic(twice=True):
            found = own(x)
    assert torch.allclose(found, expected, atol=1e-6)
    for name, value in plain.state_dict().items():
        assert torch.allclose(own.state_dict()[name], value, atol=1e-6), name


def test_in_evaluation_mode_the_running_statistics_are_used() -> None:
    x = operands()[0].detach().float()
    norm = nn.BatchNorm2d(4).eval()
    with Arithmetic(twice=True):
        assert torch.equal(norm(x), F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias))
