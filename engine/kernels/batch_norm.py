"""BatchNorm over a batch's own statistics, with its double backward in closed form.

Means are over N = batch * height * width positions, a value a channel. With s = 1 / sqrt(var + eps), h = (x - mean) s and
P(t) = t - mean(t) - h mean(t h), the backward of y = gamma h + beta under the cotangent g is

    g_x = gamma s P(g),    g_gamma = N mean(g h),    g_beta = N mean(g).

Under cotangents v, v_gamma, v_beta of these three, with c = mean(v g) - mean(v) mean(g) - mean(v h) mean(g h), the derivative is

    to g:      gamma s P(v) + v_gamma h + v_beta
    to gamma:  N s c
    to x:      -gamma s^2 (h c + P(v) mean(g h)) + s (v_gamma - gamma s mean(v h)) P(g)

which is what PyTorch's decomposition computes in several times as many passes over the map. Statistics and sums are in gamma's
dtype; x, g and the gradients of both may be narrower.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_OVER = (0, 2, 3)


def _wide(t: Tensor) -> Tensor:
    """[C] -> [1, C, 1, 1]."""
    return t.view(1, -1, 1, 1)


def _project(t: Tensor, h: Tensor, mean_t: Tensor, mean_th: Tensor) -> Tensor:
    """P(t), given the means of t and t h."""
    return t - _wide(mean_t) - h * _wide(mean_th)


class _Backward(Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, gamma: Tensor, mean: Tensor, s: Tensor) -> Any:
        count = x.numel() // x.shape[1]
        g, h = grad.to(gamma.dtype), (x.to(gamma.dtype) - _wide(mean)) * _wide(s)
        sum_g, sum_gh = g.sum(_OVER), (g * h).sum(_OVER)
        ctx.save_for_backward(grad, x, gamma, mean, s, sum_g, sum_gh)
        ctx.set_materialize_grads(False)
        return (_wide(gamma * s) * _project(g, h, sum_g / count, sum_gh / count)).to(x.dtype), sum_gh, sum_g

    @staticmethod
    def backward(ctx: Any, on_x: Tensor | None, on_gamma: Tensor | None, on_beta: Tensor | None) -> Any:
        grad, x, gamma, mean, s, sum_g, sum_gh = ctx.saved_tensors
        count, dtype = x.numel() // x.shape[1], gamma.dtype
        g, h = grad.to(dtype), (x.to(dtype) - _wide(mean)) * _wide(s)
        v = torch.zeros_like(h) if on_x is None else on_x.to(dtype)
        v_gamma = torch.zeros_like(mean) if on_gamma is None else on_gamma
        v_beta = torch.zeros_like(mean) if on_beta is None else on_beta
        mean_g, mean_gh = sum_g / count, sum_gh / count
        mean_v, mean_vh = v.sum(_OVER) / count, (v * h).sum(_OVER) / count
        p_v = _project(v, h, mean_v, mean_vh)
        to_grad = to_x = to_gamma = None
        if ctx.needs_input_grad[0]:
            to_grad = (_wide(gamma * s) * p_v + _wide(v_gamma) * h + _wide(v_beta)).to(grad.dtype)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            c = (v * g).sum(_OVER) / count - mean_v * mean_g - mean_vh * mean_gh
            to_gamma = count * s * c
            p_g = _project(g, h, mean_g, mean_gh)
            first = _wide(-gamma * s * s) * (h * _wide(c) + p_v * _wide(mean_gh))
            to_x = (first + _wide(s * (v_gamma - gamma * s * mean_vh)) * p_g).to(x.dtype)
        return to_grad, to_x, to_gamma, None, None


class _BatchNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Any:
        wide = x.to(gamma.dtype)
        variance, mean = torch.var_mean(wide, _OVER, correction=0)
        s = torch.rsqrt(variance + eps)
        ctx.save_for_backward(x, gamma, mean, s)
        ctx.mark_non_differentiable(mean, variance)
        y = (wide - _wide(mean)) * _wide(s * gamma) + _wide(beta)
        return y.to(x.dtype), mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _mean: Tensor, _variance: Tensor) -> Any:
        x, gamma, mean, s = ctx.saved_tensors
        return *_Backward.apply(grad, x, gamma, mean, s), None


def batch_norm(x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """[B, C, h, w], [C], [C] -> y like x, and the batch's mean and biased variance [C], which carry no gradient.

    Twice differentiable, not thrice; the running statistics are the caller's to move.
    """
    result: tuple[Tensor, Tensor, Tensor] = _BatchNorm.apply(x, gamma, beta, eps)
    return result
