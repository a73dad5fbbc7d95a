"""SGD as a pure function of (parameters, momentum, gradient), and the adjoint of one such step.

Written after torch.optim.SGD without dampening: d = g + wd * theta, m' = mu * m + d, and then theta' = theta - lr * m' (plain)
or theta - lr * (d + mu * m') (Nesterov).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = list[Tensor]


@dataclass(frozen=True, slots=True)
class Sgd:
    """The settings of the student's optimiser at one moment."""

    lr: float | Tensor  # a tensor where a compiled step is to serve every learning rate
    momentum: float
    weight_decay: float
    nesterov: bool

    @classmethod
    def of(cls, optimizer: torch.optim.Optimizer) -> Sgd:
        """Those of a torch.optim.SGD with one parameter group, no dampening and no maximise."""
        (group,) = optimizer.param_groups
        return cls(group["lr"], group["momentum"], group["weight_decay"], group["nesterov"])

    def step(self, parameters: Tensors, momenta: Tensors, gradients: Sequence[Tensor]) -> tuple[Tensors, Tensors]:
        """New parameters and new momenta; the given tensors stay as they are."""
        d = torch._foreach_add(list(gradients), parameters, alpha=self.weight_decay)
        after = torch._foreach_add(d, momenta, alpha=self.momentum)
        moved = torch._foreach_add(d, after, alpha=self.momentum) if self.nesterov else after
        return list(torch._foreach_sub(parameters, torch._foreach_mul(moved, self.lr))), list(after)

    def adjoint(self, p: Tensors, q: Tensors) -> tuple[Tensors, Tensors]:
        """From the cotangents p of theta' and q of m': those of the gradient g (u) and of the momentum m.

        The cotangent of theta follows as p + wd * u + H u, H being the Hessian of the step's loss (method.md).
        """
        scaled = torch._foreach_mul(p, self.lr)
        u_m = list(torch._foreach_sub(q, scaled, alpha=self.momentum if self.nesterov else 1.0))
        u = list(torch._foreach_sub(u_m, scaled)) if self.nesterov else u_m
        return u, list(torch._foreach_mul(u_m, self.momentum))


def momenta_of(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> Tensors:
    """The optimiser's momentum buffers, zeros where it has made none yet."""
    buffers = (optimizer.state[p].get("momentum_buffer") if p in optimizer.state else None for p in parameters)
    return [torch.zeros_like(p) if buffer is None else buffer for p, buffer in zip(parameters, buffers, strict=True)]
