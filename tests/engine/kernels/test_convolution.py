"""The convolution's derivatives, first and second, against finite differences and against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import grad, gradcheck, gradgradcheck

from engine.kernels.convolution import Geometry, convolution, weight_gradient

GEOMETRIES = [
    Geometry((1, 1), (1, 1), (1, 1), 1),
    Geometry((2, 2), (1, 1), (1, 1), 1),
    Geometry((1, 2), (0, 1), (1, 1), 2),
    Geometry((1, 1), (2, 2), (2, 2), 1),
]


def operands(geometry: Geometry) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)

    return draw(2, 4, 5, 5), draw(6, 4 // geometry.groups, 3, 3), draw(6)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_both_derivatives_by_finite_differences(geometry: Geometry) -> None:
    assert gradcheck(lambda *o: convolution(*o, geometry), operands(geometry))
    assert gradgradcheck(lambda *o: convolution(*o, geometry), operands(geometry))


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (1, 2)])
def test_second_derivative_when_only_some_are_asked_for(wanted: tuple[int, ...]) -> None:
    geometry, found = GEOMETRIES[0], []
    for function in (lambda x, w, b: convolution(x, w, b, geometry), lambda x, w, b: F.conv2d(x, w, b, *geometry)):
        given = operands(geometry)
        first = grad(function(*given).pow(3).sum(), [given[n] for n in wanted], create_graph=True)
        found.append(grad(sum(g.square().sum() for g in first), given))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10)


@pytest.mark.parametrize("kernel", [1, 3])
def test_small_maps_in_bfloat16_have_the_same_weight_gradient(kernel: int) -> None:
    """It takes another way there, by columns and one matrix product."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8, 5, 4, 4, generator=generator)
    weight = torch.randn(7, 5, kernel, kernel, generator=generator)
    cotangent = torch.randn(8, 7, 4, 4, generator=generator)
    geometry = Geometry((1, 1), (kernel // 2,) * 2, (1, 1), 1)
    exact = weight_gradient(cotangent, x, weight, geometry)
    narrow = weight_gradient(cotangent.bfloat16(), x.bfloat16(), weight.bfloat16(), geometry)
    assert narrow.shape == exact.shape
    assert (narrow.float() - exact).norm() < 0.01 * exact.norm()
