"""The meta-weight network: two small nets that say how much each teacher's logits and features count for each sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from engine.randomness import key


class WeightNet(nn.Module):
    """Two linear layers, the hidden one half as wide as the input; a softmax over the teachers."""

    def __init__(self, inputs: int, teachers: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, inputs // 2)
        self.output = nn.Linear(inputs // 2, teachers)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs] -> [B, teachers]; each row sums to 1."""
        return torch.softmax(self.output(torch.relu(self.hidden(x))), dim=1)


class WeightNets(nn.Module):
    """The logit net, tied to the classes, and the feature net, tied to the batch size by the Gram matrices' rows."""

    def __init__(self, teachers: int, classes: int, batch_size: int, normalise: bool, seed: int) -> None:
        super().__init__()
        self.normalise = normalise
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key(seed, "weight nets"))
            self.logit = WeightNet(classes * (teachers + 1), teachers)
            self.feature = WeightNet(batch_size * (teachers + 1), teachers)

    def logit_weights(self, teachers: Sequence[Tensor], student: Tensor) -> Tensor:
        """Logits, K times [B, C] and [B, C] -> [B, K]. No gradient flows to the student."""
        return self._weigh(self.logit, torch.cat([*teachers, student.detach()], dim=1))

    def feature_weights(self, teachers: Sequence[Tensor], student: Tensor) -> Tensor:
        """Feature maps, K times [B, c_k, h_k, w_k] and [B, c, h, w] -> [B, K]. No gradient flows to the student."""
        maps = [*teachers, student.detach()]
        return self._weigh(self.feature, torch.cat([gram(m, self.normalise) for m in maps], dim=1))

    def _weigh(self, net: WeightNet, x: Tensor) -> Tensor:
        weights: Tensor = net(x.to(net.output.weight.dtype))
        return weights


def gram(features: Tensor, normalise: bool) -> Tensor:
    """[B, c, h, w] -> [B, B]: inner products between the samples' feature maps, each row divided by its L2 norm on request.

    Raw entries reach thousands, which makes a softmax over them one-hot and its gradient zero (method.md).
    """
    rows = features.flatten(1)
    products = rows @ rows.t()
    return nn.functional.normalize(products, dim=1) if normalise else products
