"""PyTorch's optimisers without their care for PyTorch's compiler.

Their methods import it, to have it keep out of them: two seconds, in which a short run could be half done. No compiler sees an
optimiser of ours.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch


class _Plain(torch.optim.Optimizer):
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch.optim.Optimizer."""
        inspect.unwrap(torch.optim.Optimizer.add_param_group)(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As torch.optim.Optimizer."""
        inspect.unwrap(torch.optim.Optimizer.zero_grad)(self, set_to_none)


class SGD(_Plain, torch.optim.SGD):
    """torch.optim.SGD, but that nothing can be differentiated through a step, and no closure is taken."""

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """As torch.optim.SGD."""
        inspect.unwrap(torch.optim.SGD.step)(self)


class Adam(_Plain, torch.optim.Adam):
    """torch.optim.Adam, likewise."""

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """As torch.optim.Adam."""
        inspect.unwrap(torch.optim.Adam.step)(self)
