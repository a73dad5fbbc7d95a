"""CA-MKD: a teacher counts the more for a sample the nearer its prediction is to the label; its features count by its own head.

Zhang, Chen & Wang, *Confidence-Aware Multi-Teacher Knowledge Distillation*, ICASSP 2022 (arXiv 2201.00007).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.data import Batch
from engine.errors import UserError
from engine.methods.base import LearnerOutput, Method, Step, sizes_of
from engine.methods.losses import distances, divergences, weighted
from engine.models import Output
from engine.models.regressor import Learner
from engine.preset import CamkdPart

Head = Callable[[Tensor], Tensor]  # a feature map [B, c_k, h, w] -> logits [B, C]


class ConfidenceAware(Method):
    """L = gamma L_ce + alpha mean_i sum_k w_ik KL_ik + beta mean_i sum_k v_ik D_ik.

    w_ik = (1 - exp(E_ik) / sum_j exp(E_ij)) / (K - 1), E_ik being the cross entropy of teacher k's prediction with sample i's
    label; v_ik the same of the student's features, mapped by regressor k, average-pooled, and classified by teacher k's own head.
    K >= 2, a sample's weights sum to 1, and no gradient flows through them (the public code lets it flow through v).
    """

    eager_because = "the teachers' heads take part in it"
    weighs_samples = ("logit", "feature")

    def __init__(self, settings: CamkdPart, learner: Learner, heads: Sequence[Head]) -> None:
        """`heads`: each teacher's, frozen; they are asked, not owned: no parameters and no state of this module.

        UserError where there is not one for each teacher.
        """
        super().__init__(learner)
        if len(heads) != len(learner.regressors):
            raise UserError("camkd asks the teachers' heads: pass heads=panel.classifiers()")
        self.settings = settings
        self.heads = tuple(heads)

    def step(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        """One pass of the student, and of the heads on its mapped features."""
        output: LearnerOutput = self.learner(batch.images, sizes_of(teachers))
        said = [t.logits for t in teachers]
        with torch.no_grad():
            mapped = [head(regressed) for head, regressed in zip(self.heads, output.regressed, strict=True)]
            logit_weights = confidence_weights(said, batch.labels)
            feature_weights = confidence_weights(mapped, batch.labels)
        ce = F.cross_entropy(output.logits, batch.labels)
        logit = weighted(logit_weights, divergences(said, output.logits, self.settings.temperature))
        feature = weighted(feature_weights, distances([t.features for t in teachers], output.regressed))
        return Step(
            loss=self.settings.gamma * ce + self.settings.alpha * logit + self.settings.beta * feature,
            logits=output.logits,
            ce=ce,
            logit=logit,
            feature=feature,
            logit_weights=logit_weights,
            feature_weights=feature_weights,
        )

    def logit_weights_of(self, student: Tensor, teachers: Sequence[Tensor], labels: Tensor) -> Tensor:
        """See Method; w."""
        return confidence_weights(teachers, labels)

    @torch.no_grad()
    def feature_weights_of(self, output: LearnerOutput, teachers: Sequence[Output], labels: Tensor) -> Tensor:
        """See Method; v."""
        mapped = [head(regressed) for head, regressed in zip(self.heads, output.regressed, strict=True)]
        return confidence_weights(mapped, labels)


@torch.no_grad()
def confidence_weights(predictions: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Logits, K >= 2 times [B, C], and labels [B] -> [B, K]; each row sums to 1."""
    entropies = torch.stack([F.cross_entropy(logits, labels, reduction="none") for logits in predictions], dim=1)
    return (1 - torch.softmax(entropies, dim=1)) / (len(predictions) - 1)
