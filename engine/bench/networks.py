"""The networks and batches of a case: random weights, synthetic images, both functions of fixed seeds."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from engine.bench.cases import Case
from engine.compiled.flat import Function
from engine.data import Batch
from engine.models import Classifier, build_model
from engine.randomness import generator

BATCHES = 4  # different ones, taken in turn
LR = 1e-3  # a step costs the same at any rate, and at this one random teachers do not make the student diverge


@dataclass(frozen=True, slots=True)
class Setting:
    """A case on a device. Each call makes networks anew, with the same numbers in them."""

    case: Case
    device: torch.device
    compiled: dict[Hashable, Function] = field(default_factory=dict)  # what has been, for subjects that take the same steps

    def student(self) -> Classifier:
        """In training mode."""
        return self._network(self.case.student, seed=100).train()

    def teachers(self) -> list[Classifier]:
        """Frozen, in evaluation mode, with BatchNorm's statistics of a batch: without them activations grow with the depth."""
        networks = [self._network(name, seed) for seed, name in enumerate(self.case.teachers)]
        images = self.batches()[0].images
        for network in networks:
            norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
            before = [norm.momentum for norm in norms]
            for norm in norms:
                norm.momentum = 1.0
            with torch.no_grad():
                network.train()(images)
            for norm, momentum in zip(norms, before, strict=True):
                norm.momentum = momentum
            network.eval().requires_grad_(False)
        return networks

    def batches(self) -> list[Batch]:
        """Noise for images and for labels."""
        case = self.case
        found = []
        for number in range(BATCHES):
            random = generator(0, "benchmark batch", number)
            images = torch.randn(case.batch, 3, case.size, case.size, generator=random)
            labels = torch.randint(case.classes, (case.batch,), generator=random)
            found.append(Batch(images.to(self.device), labels.to(self.device)))
        return found

    def in_turn(self) -> Iterator[Batch]:
        """The batches, without end."""
        batches = self.batches()
        while True:
            yield from batches

    def _network(self, name: str, seed: int) -> Classifier:
        case = self.case
        return build_model(name, 3, case.classes, seed, size=case.size, features=case.features).to(self.device)


def recipe(parameters: Iterator[nn.Parameter]) -> torch.optim.SGD:
    """The paper's SGD, but for its learning rate."""
    return torch.optim.SGD(parameters, lr=LR, momentum=0.9, weight_decay=5e-4, nesterov=True)
