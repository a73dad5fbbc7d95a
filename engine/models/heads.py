"""A network's classifier head on a device of its own, while the rest of the network lies elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from engine.models.interface import Classifier


class _Read(TorchFunctionMode):
    """Notes which tensors operations are given."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[int] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for value in (*args, *(kwargs or {}).values()):
            self.ids |= {id(one) for one in (value if isinstance(value, (list, tuple)) else (value,)) if isinstance(one, Tensor)}
        return func(*args, **(kwargs or {}))


class HeadAlone:
    """`model.classify`: what it reads is copied to the device when it is first asked."""

    def __init__(self, model: Classifier, device: torch.device) -> None:
        self.model, self.device = model, device
        self._head: Classifier | None = None

    def __call__(self, features: Tensor) -> Tensor:
        """A feature map [B, feature_channels, h, w] on the device -> logits [B, C]."""
        if self._head is None:
            self._head = self._copied(features)
        return self._head.classify(features)

    @torch.no_grad()
    def _copied(self, features: Tensor) -> Classifier:
        given = features.detach().to("cpu")
        self.model.classify(given)  # the first time, a foreign network looks for its head, and reads all of it
        with _Read() as read:
            self.model.classify(given)
        named = [*self.model.parameters(), *self.model.buffers()]
        # deepcopy takes from its memo what must not be copied as it is: all that the head does not read gets no memory.
        memo: dict[int, Any] = {}
        for tensor in named:
            place = self.device if id(tensor) in read.ids else torch.device("meta")
            moved = torch.empty_like(tensor, device=place) if place.type == "meta" else tensor.detach().to(place, copy=True)
            memo[id(tensor)] = torch.nn.Parameter(moved, False) if isinstance(tensor, torch.nn.Parameter) else moved
        return copy.deepcopy(self.model, memo)


def head_alone(model: Classifier, device: torch.device) -> HeadAlone:
    """The head of `model`, which stays where it is: in CPU memory."""
    return HeadAlone(model, device)
