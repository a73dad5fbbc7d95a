"""A 2-D convolution whose double backward is plain convolutions, so that a meta step costs what its arithmetic costs.

With y = x * w + b and g the cotangent of y: the input's gradient is the transposed convolution of g with w, the weight's is the
correlation of x and g, the bias's is the sum of g. Each is linear in each of its arguments, so their own derivatives are the same
three operations with the arguments exchanged; they are written out below.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

aten = torch.ops.aten
SMALL_MAP = 16  # positions: on maps up to 4x4 in bfloat16, oneDNN's weight gradient is slow


class Geometry(NamedTuple):
    """How the kernel walks over the map: (vertical, horizontal) each."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def input_gradient(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """d/dx of sum(grad * conv(x, weight)): [B, out, h', w'], [B, in, h, w], [out, in / groups, k, k] -> [B, in, h, w]."""
    stride, padding, dilation, groups = geometry
    wanted = [True, False, False]
    result: Tensor = aten.convolution_backward(grad, x, weight, None, stride, padding, dilation, False, (0, 0), groups, wanted)[0]
    return result


def weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """d/dweight of sum(grad * conv(x, weight)); `weight` gives the shape alone. See `input_gradient`."""
    if _small(x, weight, geometry):
        return _weight_gradient_by_columns(grad, x, weight, geometry)
    stride, padding, dilation, groups = geometry
    wanted = [False, True, False]
    result: Tensor = aten.convolution_backward(grad, x, weight, None, stride, padding, dilation, False, (0, 0), groups, wanted)[1]
    return result


def _small(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    size = weight.shape[2]
    same = geometry.padding == (size // 2, size // 2) and size % 2 == 1 and weight.shape[3] == size
    plain = geometry.stride == geometry.dilation == (1, 1) and geometry.groups == 1
    return x.device.type == "cpu" and x.dtype == torch.bfloat16 and x.shape[2] * x.shape[3] <= SMALL_MAP and same and plain


def _weight_gradient_by_columns(grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """The same by im2col and one matrix product; for a stride of 1 and a map that keeps its size."""
    (height, width), size = x.shape[2:], weight.shape[2]
    columns = x.permute(0, 2, 3, 1)
    if size > 1:
        pad = size // 2
        padded = F.pad(columns, (0, 0, pad, pad, pad, pad))
        columns = torch.cat([padded[:, i : i + height, j : j + width] for i in range(size) for j in range(size)], dim=3)
    rows = grad.permute(0, 2, 3, 1).reshape(-1, grad.shape[1])
    product = rows.t() @ columns.reshape(len(rows), -1)
    return product.view(weight.shape[0], size, size, weight.shape[1]).permute(0, 3, 1, 2)


def _bias_gradient(grad: Tensor) -> Tensor:
    wide = torch.promote_types(grad.dtype, torch.float32)
    return grad.to(wide).sum((0, 2, 3)).to(grad.dtype)


class _Backward(Function):
    """(g, x, w) -> the gradients of x, w and b, as a function that can itself be differentiated."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, geometry: Geometry, wanted: tuple[bool, bool, bool]) -> Any:
        ctx.save_for_backward(grad, x, weight)
        ctx.geometry = geometry
        ctx.set_materialize_grads(False)
        return (
            input_gradient(grad, x, weight, geometry) if wanted[0] else None,
            weight_gradient(grad, x, weight, geometry) if wanted[1] else None,
            _bias_gradient(grad) if wanted[2] else None,
        )

    @staticmethod
    def backward(ctx: Any, on_x: Tensor | None, on_weight: Tensor | None, on_bias: Tensor | None) -> Any:
        grad, x, weight = ctx.saved_tensors
        geometry = ctx.geometry
        parts: list[Tensor] = []
        out_x = out_weight = None
        if ctx.needs_input_grad[0]:
            if on_x is not None:
                parts.append(F.conv2d(on_x, weight, None, *geometry))
            if on_weight is not None:
                parts.append(F.conv2d(x, on_weight, on_bias, *geometry))
            elif on_bias is not None:
                parts.append(on_bias.view(1, -1, 1, 1).expand_as(grad))
        if ctx.needs_input_grad[1] and on_weight is not None:
            out_x = input_gradient(grad, x, on_weight, geometry)
        if ctx.needs_input_grad[2] and on_x is not None:
            out_weight = weight_gradient(grad, on_x, weight, geometry)
        out_grad = None if not parts else parts[0] if len(parts) == 1 else parts[0] + parts[1]
        return out_grad, out_x, out_weight, None, None


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        return F.conv2d(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        return *_Backward.apply(grad, x, weight, ctx.geometry, wanted), None


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """[B, in, h, w], [out, in / groups, k, k], [out] -> [B, out, h', w']; all of one dtype. Twice differentiable, not thrice."""
    result: Tensor = _Convolution.apply(x, weight, bias, geometry)
    return result
