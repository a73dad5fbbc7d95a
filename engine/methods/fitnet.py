"""FitNet-MKD: equal weights for every teacher's logits and for hints from every teacher's feature map.

Romero, Ballas, Ebrahimi Kahou, Chassang, Gatta & Bengio, *FitNets: Hints for Thin Deep Nets*, ICLR 2015 (arXiv 1412.6550): the
hints. Their mean over several teachers, learned together with the rest of the loss, is the form of the field's comparisons.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from engine.data import Batch
from engine.methods.base import LearnerOutput, Method, Step, sizes_of
from engine.methods.losses import distances, divergences
from engine.models import Output
from engine.models.regressor import Learner
from engine.preset import FitnetPart


class Hints(Method):
    """L = gamma L_ce + alpha mean_i mean_k KL_ik + beta mean_i mean_k D_ik."""

    def __init__(self, settings: FitnetPart, learner: Learner) -> None:
        super().__init__(learner)
        self.settings = settings

    def step(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        """One pass of the student."""
        output: LearnerOutput = self.learner(batch.images, sizes_of(teachers))
        kl = divergences([t.logits for t in teachers], output.logits, self.settings.temperature)
        ce, logit = F.cross_entropy(output.logits, batch.labels), kl.mean()
        feature = distances([t.features for t in teachers], output.regressed).mean()
        equal = torch.full_like(kl.detach(), 1 / len(teachers))
        return Step(
            loss=self.settings.gamma * ce + self.settings.alpha * logit + self.settings.beta * feature,
            logits=output.logits,
            ce=ce,
            logit=logit,
            feature=feature,
            logit_weights=equal,
            feature_weights=equal,
        )
