"""Cross entropy with the labels alone: how teachers are trained, and the student without them."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F

from engine.data import Batch
from engine.methods.base import Method, Step
from engine.models import Output


class CrossEntropy(Method):
    """L = mean over the batch of -log softmax(z_s)[y]."""

    def step(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        """The teachers are not looked at."""
        logits = self.learner(batch.images).logits
        loss = F.cross_entropy(logits, batch.labels)
        return Step(loss=loss, logits=logits, ce=loss)
