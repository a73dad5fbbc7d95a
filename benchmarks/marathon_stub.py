"""A plugin for a run in fast motion: steps that cost next to nothing, each with an event, a known loss, a chatty library."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

import engine.methods.make
import engine.trainer
from engine import register_architecture
from engine.data import Batch
from engine.methods.base import Method, Step
from engine.models import Classifier, Output
from engine.models.regressor import Learner

STEPS = int(os.environ.get("MARATHON_STEPS", "1000000"))
PEAK = 9.0  # of the loss, at one step only


class Stub(Classifier):
    """Says the same of every image."""

    feature_channels = 1

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.rand(classes))
        self.said: dict[int, Output] = {}

    def forward(self, images: torch.Tensor) -> Output:
        """[B, channels, H, W] -> logits [B, C] and a feature map [B, 1, 1, 1]."""
        size = images.shape[0]
        if self.training:
            return Output(self.bias.expand(size, -1), torch.zeros(size, 1, 1, 1))
        if size not in self.said:
            logits = self.bias.detach().clone().expand(size, -1).contiguous()
            self.said[size] = Output(logits, torch.zeros(size, 1, 1, 1))
        return self.said[size]


class StubMethod(Method):
    """The loss falls from 4 to 1 in a straight line, but for one peak at a third of the way; the weights never change."""

    def __init__(self, settings: object, learner: Learner) -> None:
        super().__init__(learner)
        self.weights: torch.Tensor | None = None
        self.number = 0

    def step(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        """One step, whatever the batch."""
        if self.weights is None:
            self.logits = self.learner.student(batch.images).logits.detach()
            self.weights = torch.linspace(1, 2, len(teachers)).softmax(0).expand(len(batch.labels), -1)
        self.number += 1
        value = PEAK if self.number == STEPS // 3 else 4 - 3 * self.number / STEPS
        loss = self.learner.student.bias[0] * 0 + value
        # As a library does that warns at every batch: this goes to console.log.
        os.write(2, b"/usr/lib/python3/dist-packages/library/module.py:123: UserWarning: this is told at every step\n")
        return Step(loss=loss, logits=self.logits, ce=loss, logit_weights=self.weights)


register_architecture("stub", lambda channels, classes: Stub(classes))
engine.methods.make.Average = StubMethod
engine.trainer.METRICS_EVERY = 0.0
