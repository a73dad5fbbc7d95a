"""A module whose parts are shared is called with other tensors, and keeps its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from engine.models.functional import call_with


class Shared(nn.Module):
    """One layer in two places, a weight in two layers, and a layer with statistics in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.layers = nn.ModuleList([nn.Linear(3, 3), self.norm, nn.Linear(3, 3)])
        self.layers.append(self.layers[0])
        self.last = nn.Linear(3, 3)
        self.last.weight = self.layers[2].weight

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.layers, self.norm, self.last):
            x = layer(x)
        return x


def owned(model: nn.Module) -> dict[str, int]:
    found = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    return {name: id(tensor) for name, tensor in found.items()}


def test_it_says_what_a_module_with_these_tensors_says_and_changes_nothing() -> None:
    model, other = Shared().eval(), Shared().eval()
    with torch.no_grad():
        for tensor in (*other.parameters(), other.norm.running_mean):
            tensor.uniform_(-1, 1)
    x, before = torch.randn(5, 3), owned(model)
    tensors = dict(other.named_parameters()) | dict(other.named_buffers())
    assert torch.equal(call_with(model, tensors, (x,)), other(x))
    assert owned(model) == before
    functional_call(model, tensors, (x,))
    assert owned(model) != before  # which is why there is one of our own
