"""EBKD: a teacher counts the more for a sample the surer it is of it, measured by the entropy of its prediction.

Kwon, Na, Lee & Kim, *Adaptive Knowledge Distillation Based on Entropy*, ICASSP 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.data import Batch
from engine.methods.base import Method, Step
from engine.methods.losses import divergences, weighted
from engine.models import Output
from engine.models.regressor import Learner
from engine.preset import EbkdPart

LEAST = 1e-12  # nats; so that teachers who are all certain share equally


class EntropyBased(Method):
    """L = gamma L_ce + alpha mean_i sum_k w_ik KL_ik, with w_ik = (1 - H_ik / sum_j H_ij) / (K - 1).

    H_ik is the entropy of softmax(z_k) (temperature 1) for sample i, and K >= 2. The weights of a sample sum to 1, so that the
    size of the loss does not depend on K. So it is in the field's comparisons, whose public code makes the sum (K - 1) / K.
    """

    weighs_samples = ("logit",)

    def __init__(self, settings: EbkdPart, learner: Learner) -> None:
        super().__init__(learner)
        self.settings = settings

    def logit_weights_of(self, student: Tensor, teachers: Sequence[Tensor], labels: Tensor) -> Tensor:
        """See Method; w."""
        return entropy_weights(teachers)

    def step(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        """One pass of the student."""
        logits = self.learner(batch.images).logits
        said = [t.logits for t in teachers]
        weights = entropy_weights(said)
        ce, logit = F.cross_entropy(logits, batch.labels), weighted(weights, divergences(said, logits, self.settings.temperature))
        loss = self.settings.gamma * ce + self.settings.alpha * logit
        return Step(loss=loss, logits=logits, ce=ce, logit=logit, logit_weights=weights)


@torch.no_grad()
def entropy_weights(teachers: Sequence[Tensor]) -> Tensor:
    """Logits, K >= 2 times [B, C] -> [B, K]; each row sums to 1."""
    columns = []
    for logits in teachers:
        log = F.log_softmax(logits, dim=1)
        columns.append(-(log.exp() * log).sum(1))
    entropies = torch.stack(columns, dim=1).clamp_min(LEAST)
    return (1 - entropies / entropies.sum(1, keepdim=True)) / (len(teachers) - 1)
