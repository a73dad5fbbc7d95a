"""A plugin for runs in fast motion: networks and a method that cost next to nothing, an event at every step, a chatty library."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.nn.functional as F

import engine.methods.make
import engine.trainer
from engine import register_architecture
from engine.data import Batch
from engine.methods.base import Method, Step
from engine.models import Classifier, Output
from engine.models.regressor import Learner

PIXELS = 64  # of a digit


class Stub(Classifier):
    """A linear classifier of digits."""

    feature_channels = PIXELS

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(PIXELS, classes)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return images.reshape(len(images), PIXELS, 1, 1)

    def head(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.fc(pooled)


class StubMethod(Method):
    """Cross entropy, and weights of the teachers that never change."""

    def __init__(self, settings: object, learner: Learner) -> None:
        super().__init__(learner)
        self.weights: torch.Tensor | None = None

    def step(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        logits = self.learner(batch.images).logits
        loss = F.cross_entropy(logits, batch.labels)
        if self.weights is None:
            self.weights = torch.linspace(1, 2, len(teachers)).softmax(0).expand(len(logits), -1)
        # As a library does that warns at every batch: this goes to console.log.
        os.write(2, b"/usr/lib/python3/dist-packages/library/module.py:123: UserWarning: this is told at every step\n")
        return Step(loss=loss, logits=logits, ce=loss, logit_weights=self.weights)


register_architecture("stub", lambda channels, classes: Stub(classes))
engine.methods.make.Average = StubMethod
engine.trainer.METRICS_EVERY = 0.0
