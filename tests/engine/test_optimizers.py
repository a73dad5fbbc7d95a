"""The optimisers take PyTorch's own steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from engine.optimizers import SGD, Adam

CASES = {
    "SGD": (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}),
    "plain SGD": (SGD, torch.optim.SGD, {"lr": 0.1}),
    "Adam": (Adam, torch.optim.Adam, {"lr": 0.01, "weight_decay": 1e-3}),
}


@pytest.mark.parametrize("name", CASES)
def test_steps_are_those_of_torch_optim(name: str) -> None:
    ours, theirs, settings = CASES[name]

    def trained(kind: type[torch.optim.Optimizer]) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        weights = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((3, 4), (5,))]
        optimizer = kind([{"params": weights[:1]}], **settings)
        optimizer.add_param_group({"params": weights[1:], "lr": 0.05})
        for _ in range(4):
            (weights[0].square().sum() * weights[1].exp().sum()).backward()
            optimizer.step()
            optimizer.zero_grad()
            assert all(weight.grad is None for weight in weights)
        return [*weights, *(value for weight in weights for value in optimizer.state[weight].values() if value is not None)]

    for one, other in zip(trained(ours), trained(theirs), strict=True):
        assert not one.requires_grad or one.is_leaf  # no step is a part of a graph
        assert torch.equal(one, other)
