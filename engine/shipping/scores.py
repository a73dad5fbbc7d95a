"""What a classifier's logits are worth: accuracies, likelihood, calibration, and agreement with another classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.data.images import LEFT_OUT

BINS = 15  # of the calibration error, as Guo et al. report it
TOP = 5


@dataclass(frozen=True, slots=True)
class Scores:
    """Shares in 0..1; `loss` in nats. What is None cannot be told."""

    images: int  # that count: those that could be read
    top1: float
    top5: float | None  # None where there are no more than five classes
    loss: float  # mean negative log-likelihood
    calibration_error: float
    per_class: tuple[tuple[int, float | None], ...]  # images of the class, and the share of them named right


@torch.no_grad()
def scored(logits: Tensor, labels: Tensor) -> Scores:
    """Logits [N, C] against labels [N]; images with the label LEFT_OUT do not count."""
    counted = labels != LEFT_OUT
    logits, labels = logits[counted].double(), labels[counted]
    right = logits.argmax(1) == labels
    classes = logits.shape[1]
    top5 = None
    if classes > TOP:
        top5 = (logits.topk(TOP, 1).indices == labels[:, None]).any(1).double().mean().item()
    counts = torch.bincount(labels, minlength=classes)
    hits = torch.bincount(labels[right], minlength=classes)
    shares = zip(counts.tolist(), hits.tolist(), strict=True)
    return Scores(
        images=len(labels),
        top1=right.double().mean().item(),
        top5=top5,
        loss=F.cross_entropy(logits, labels).item(),
        calibration_error=calibration_error(logits.softmax(1), labels),
        per_class=tuple((count, hit / count if count else None) for count, hit in shares),
    )


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Expected calibration error of probabilities [N, C] against labels [N], in 0..1.

    Guo et al., On Calibration of Modern Neural Networks (arXiv 1706.04599), equation 3: images are put into `bins` bins of equal
    width by the probability of the class that is named, ((m - 1)/M, m/M]; the sum over bins of n_m/N |accuracy - confidence|.
    """
    confidence, named = probabilities.max(1)
    edges = torch.linspace(0, 1, bins + 1, dtype=confidence.dtype, device=confidence.device)
    place = torch.bucketize(confidence, edges[1:-1])  # the right edge belongs to the bin
    gap = torch.zeros(bins, dtype=torch.float64, device=confidence.device)
    gap.index_add_(0, place, (named == labels).double() - confidence.double())
    return (gap.abs().sum() / len(labels)).item()


def agreement(logits: Tensor, others: Tensor, labels: Tensor) -> float:
    """The share of images (those that count) of which two classifiers [N, C] name the same class, right or wrong."""
    counted = labels != LEFT_OUT
    return (logits.argmax(1) == others.argmax(1))[counted].double().mean().item()
