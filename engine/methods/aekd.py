"""AEKD: each batch's weights are those under which the teachers' gradients agree best: the shortest vector of their hull.

Du, You, Li, Wu, Wang, Qian & Zhang, *Agree to Disagree: Adaptive Ensemble Knowledge Distillation in Gradient Space*,
NeurIPS 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.data import Batch
from engine.methods.base import LearnerOutput, Method, Step, sizes_of
from engine.methods.losses import distances, divergences
from engine.models import Output
from engine.models.regressor import Learner
from engine.preset import AekdPart

Array = npt.NDArray[np.float64]


class AdaptiveEnsemble(Method):
    """L = gamma L_ce + alpha sum_k a_k mean_i KL_ik + beta sum_k b_k mean_i D_ik.

    a minimises || sum_k a_k g_k ||^2 subject to sum_k a_k = 1 and 0 <= a_k <= t, where g_k is the gradient of mean_i KL_ik with
    respect to the student's logits, [B, C] taken as one vector, and t the tolerance of the teachers' disagreement, the paper's C
    (1: the whole hull, 1 / K: equal weights). b is the same of mean_i D_ik and the student's feature map; where beta is 0, there
    are no features in it.
    The public code averages g_k over the batch before it takes inner products; the paper's problem has the whole gradient.

    The K x K inner products are worked on by the CPU: each step waits for the device once.
    """

    eager_because = "a quadratic program on the CPU takes part in it"

    def __init__(self, settings: AekdPart, learner: Learner) -> None:
        super().__init__(learner)
        self.settings = settings

    def step(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        """One pass of the student, and for the weights a backward through each teacher's loss down to logits and features."""
        hints = bool(self.learner.regressors)
        output: LearnerOutput = self.learner(batch.images, sizes_of(teachers) if hints else ())
        kl = divergences([t.logits for t in teachers], output.logits, self.settings.temperature)
        grams, kinds = [gram_of_gradients(kl, output.logits)], [kl]
        if hints:
            kinds.append(distances([t.features for t in teachers], output.regressed))
            grams.append(gram_of_gradients(kinds[1], output.taken))
        # A batch of several processes is one vector, too: its inner products are the sums of theirs, and scale does not matter.
        programs = self.ranks.mean([torch.stack(grams)])[0].cpu().numpy()  # the one wait
        found = np.stack([shortest(gram, self.settings.tolerance) for gram in programs])
        weights = torch.from_numpy(found).to(kl.device, kl.dtype, non_blocking=True)
        ce = F.cross_entropy(output.logits, batch.labels)
        terms = [(own * losses.mean(0)).sum() for own, losses in zip(weights, kinds, strict=True)]
        loss = self.settings.gamma * ce + self.settings.alpha * terms[0]
        shown = [own.expand(len(batch.labels), -1) for own in weights]
        if not hints:
            return Step(loss=loss, logits=output.logits, ce=ce, logit=terms[0], logit_weights=shown[0])
        return Step(
            loss=loss + self.settings.beta * terms[1],
            logits=output.logits,
            ce=ce,
            logit=terms[0],
            feature=terms[1],
            logit_weights=shown[0],
            feature_weights=shown[1],
        )


def gram_of_gradients(losses: Tensor, point: Tensor) -> Tensor:
    """[K, K] float64: inner products of the gradients of each column's mean, losses [B, K], with respect to `point`."""
    gradients = [torch.autograd.grad(own, point, retain_graph=True)[0].flatten() for own in losses.mean(0)]
    rows = torch.stack(gradients).double()
    return rows @ rows.t()


def shortest(gram: Array, most: float) -> Array:
    """The weights [K] that minimise w^T gram w, with sum 1 and each in [0, most]; `most` is at least 1 / K.

    Equal weights where there is no gradient to weigh, or one that is not finite (the loss will say so).
    """
    from scipy.optimize import minimize  # half a second, which no other method needs

    count = len(gram)
    equal = np.full(count, 1 / count)
    size = np.trace(gram) / count
    if not np.isfinite(gram).all() or size <= 0:
        return equal
    scaled = gram / size
    found = minimize(
        lambda w: 0.5 * w @ scaled @ w,
        equal,
        jac=lambda w: scaled @ w,
        method="SLSQP",
        bounds=[(0.0, most)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1.0, "jac": np.ones_like},
        options={"ftol": 1e-14, "maxiter": 200},
    )
    weights = np.clip(found.x, 0.0, most)
    total = weights.sum()
    return weights / total if np.isfinite(total) and total > 0 else equal
