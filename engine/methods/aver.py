"""Equal weights: every teacher's softened logits count the same. With one teacher, this is KD (Hinton, Vinyals & Dean, 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from engine.data import Batch
from engine.methods.base import Method, Step
from engine.methods.losses import divergences
from engine.models import Output
from engine.models.regressor import Learner
from engine.preset import AverPart, KdPart


class Average(Method):
    """L = gamma L_ce + alpha mean_i mean_k KL_ik."""

    def __init__(self, settings: AverPart | KdPart, learner: Learner) -> None:
        super().__init__(learner)
        self.settings = settings

    def step(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        """One pass of the student."""
        logits = self.learner(batch.images).logits
        kl = divergences([t.logits for t in teachers], logits, self.settings.temperature)
        ce, logit = F.cross_entropy(logits, batch.labels), kl.mean()
        return Step(
            loss=self.settings.gamma * ce + self.settings.alpha * logit,
            logits=logits,
            ce=ce,
            logit=logit,
            logit_weights=torch.full_like(kl.detach(), 1 / len(teachers)),
        )
