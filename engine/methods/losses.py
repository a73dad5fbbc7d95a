"""The losses between student and teachers, a value for each sample and teacher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.models.regressor import shrink


def divergences(teachers: Sequence[Tensor], student: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(z_k / T) || softmax(z_s / T)): logits, K times [B, C] and [B, C] -> [B, K]. Hinton et al., 2015."""
    log_student = F.log_softmax(student / temperature, dim=1)
    columns = []
    for logits in teachers:
        log_teacher = F.log_softmax(logits / temperature, dim=1)
        columns.append((log_teacher.exp() * (log_teacher - log_student)).sum(1))
    return torch.stack(columns, dim=1) * temperature**2


def weighted(weights: Tensor, losses: Tensor) -> Tensor:
    """mean_i sum_k w_ik l_ik: [B, K] and [B, K] -> a scalar."""
    return (weights * losses).sum(1).mean()


def distances(teachers: Sequence[Tensor], regressed: Sequence[Tensor]) -> Tensor:
    """Mean squared difference over channels and positions: K times [B, c_k, h_k, w_k] and K times [B, c_k, h', w'] -> [B, K].

    A teacher's map that is larger than the regressed one is average-pooled to its size.
    """
    columns = []
    for features, mapped in zip(teachers, regressed, strict=True):
        difference = mapped - shrink(features, (mapped.shape[2], mapped.shape[3]))
        columns.append(difference.square().mean((1, 2, 3)))
    return torch.stack(columns, dim=1)
