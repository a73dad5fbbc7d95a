"""Wrong labels on purpose: a share of them replaced by other classes, for worse teachers and noisy-label experiments."""

from __future__ import annotations

from torch import Tensor

from engine.randomness import permutation, uniform


def noisy_labels(labels: Tensor, classes: int, share: float, seed: int) -> Tensor:
    """[N] int64 -> [N]: round(share * N) of them, each replaced by one of the other classes with equal chances (symmetric noise).

    Which ones, and by what, is a function of (seed, N, position): a larger share keeps a smaller one's replacements.
    """
    chosen = permutation(len(labels), seed, "label noise")[: round(share * len(labels))].to(labels.device)
    steps = 1 + (uniform(chosen, 1, seed, "label noise")[:, 0].double() * (classes - 1)).long()
    noisy = labels.clone()
    noisy[chosen] = (labels[chosen] + steps) % classes
    return noisy
