"""The exact hyper-gradient: how the loss after a few SGD steps changes with the weights that steered them.

The adjoint scheme of method.md: each inner step keeps the graph of its gradient; walking back, each step costs one
vector-Jacobian product on that graph, and the first step's is asked for the weights alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine.meta.sgd import Sgd, Tensors

Loss = Callable[[Tensors], Tensor]  # parameters -> scalar; the weights enter by closure
Mean = Callable[[Sequence[Tensor]], list[Tensor]]  # over the processes that train together


@dataclass(frozen=True, slots=True)
class Hypergradient:
    """What one meta step learns."""

    outer_loss: Tensor  # scalar
    gradient: Tensors  # of the outer loss, one tensor a weight tensor
    parameters: Tensors  # after the inner steps


def hypergradient(
    inner: Sequence[Loss],
    outer: Loss,
    parameters: Sequence[Tensor],
    momenta: Tensors,
    weights: Sequence[Tensor],
    sgd: Sgd,
    mean: Mean = list,
) -> Hypergradient:
    """d outer(theta_n) / d weights, where theta_n is reached from `parameters` by one SGD step on each inner loss in turn.

    Several processes: each loss is the average of theirs, and `mean` averages detached tensors over them. Gradients and
    products with the Hessian are linear in the loss, so that each process differentiates its own share alone.

    Nothing given is changed. A parameter that a loss does not reach has gradient 0 there; weight decay and momentum still act.
    """
    with sdpa_kernel(SDPBackend.MATH):  # the fused kinds of attention cannot be differentiated twice
        return _hypergradient(inner, outer, parameters, momenta, weights, sgd, mean)


def _hypergradient(
    inner: Sequence[Loss],
    outer: Loss,
    parameters: Sequence[Tensor],
    momenta: Tensors,
    weights: Sequence[Tensor],
    sgd: Sgd,
    mean: Mean,
) -> Hypergradient:
    theta = [p.detach() for p in parameters]
    tape: list[tuple[Tensors, Tensors]] = []
    for loss in inner:
        leaves = [t.requires_grad_() for t in (t.detach() for t in theta)]
        value = loss(leaves)
        gradients = list(torch.autograd.grad(value, leaves, create_graph=True, materialize_grads=True))
        tape.append((leaves, gradients))
        with torch.no_grad():
            theta, momenta = sgd.step(leaves, momenta, mean(gradients))
    leaves = [t.requires_grad_() for t in theta]
    outer_loss = outer(leaves)
    p = mean(torch.autograd.grad(outer_loss, leaves, materialize_grads=True))
    q = [torch.zeros_like(t) for t in p]

    total = [torch.zeros_like(w) for w in weights]
    while tape:
        leaves, gradients = tape.pop()
        u, q = sgd.adjoint(p, q)
        first = not tape
        # The first step's parameters are given, not learned: autograd prunes all that leads to them.
        wanted = list(weights) if first else [*weights, *leaves]
        products = list(_vector_jacobian(gradients, wanted, u))
        torch._foreach_add_(total, products[: len(weights)])
        if not first:
            torch._foreach_add_(p, u, alpha=sgd.weight_decay)
            torch._foreach_add_(p, mean(products[len(weights) :]))
    return Hypergradient(outer_loss.detach(), mean(total), [t.detach() for t in theta])


def _vector_jacobian(gradients: Tensors, wanted: Tensors, u: Tensors) -> tuple[Tensor, ...]:
    """u^T d gradients / d wanted, zeros where nothing depends."""
    live = [(g, v) for g, v in zip(gradients, u, strict=True) if g.requires_grad]
    if not live:
        return tuple(torch.zeros_like(w) for w in wanted)
    outputs, cotangents = zip(*live, strict=True)
    return torch.autograd.grad(outputs, wanted, cotangents, materialize_grads=True)
