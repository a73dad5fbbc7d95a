"""Finds where the host would wait for the device that a training runs on, and where it computes for it, on any machine.

PyTorch's `meta` device stands for the other one: as on a GPU, tensors of two devices do not mix, and a number that the host asks
for is an error, since there is none to be had.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = torch.device("meta")


class Waits(TorchDispatchMode):
    """Notes, while it is entered, each operation that on a GPU would make the host wait for all that was asked before."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = str(func)
        given = [value for value in pytree.tree_leaves([args, kwargs]) if isinstance(value, Tensor)]
        if name.startswith(("aten.cat.", "aten.stack.")) and len({tensor.device for tensor in given}) > 1:
            raise RuntimeError(f"Expected all tensors to be on the same device: {name}")  # as a GPU does, numbers alone included
        result = func(*args, **kwargs)
        there = [tensor for tensor in (*given, result) if isinstance(tensor, Tensor) and tensor.device.type != "cpu"]
        here = [tensor for tensor in given if tensor.device.type == "cpu"]
        # A copy from here to there; an index is copied, too, and only single numbers go along with the operation.
        copied = name.startswith(("aten._to_copy.", "aten.copy_.")) or any(tensor.dim() for tensor in here)
        if there and here and copied and not _at_once(name, args, kwargs):
            self.found.append(f"{name} of {[(tuple(tensor.shape), tensor.device.type) for tensor in given]}")
        # How many are chosen, only the device knows.
        if name.startswith(("aten.index", "aten.nonzero", "aten.masked_select")) and any(
            tensor.dtype is torch.bool and tensor.device.type != "cpu" for tensor in given
        ):
            self.found.append(f"{name} by a mask")
        return result


def _at_once(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether it is a copy that the host does not wait for."""
    if name.startswith("aten._to_copy."):
        return bool(kwargs.get("non_blocking"))
    return name.startswith("aten.copy_.") and bool(kwargs.get("non_blocking") or args[2:3] == (True,))
