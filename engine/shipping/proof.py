"""Runs what was written beside the student that it was made of: whether it says the same, how good it is, and how quick."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from engine.data import AnySplit
from engine.measure import whole_labels
from engine.preprocessing import Preprocessing
from engine.shipping.material import batches
from engine.shipping.runners import Ask
from engine.shipping.scores import agreement, scored

BATCH = 64  # images, of the latency that is told beside that of one image
TOLERANCE = 1e-3  # of the largest logit (at least 1): float32 in another order of operations stays far below
_SECONDS, _LEAST, _MOST = 0.5, 5, 30  # for one latency: so long, but so many passes


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds, the median of some passes on the CPU."""

    single: float  # one image
    batch: float  # BATCH images


@dataclass(frozen=True, slots=True)
class Proof:
    """The written file (`ours`) against the student in PyTorch, on test images."""

    images: int  # that could be read
    difference: float  # the largest between two logits
    largest: float  # of the student's logits, without its sign
    student_accuracy: float
    accuracy: float
    same_class: float  # share of images of which both name the same class
    student_latency: Latency
    latency: Latency
    threads: int

    @property
    def same(self) -> bool:
        """Whether it is the student but for rounding."""
        return self.difference <= TOLERANCE * max(1.0, self.largest)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"batch": BATCH}


def proven(ours: Ask, student: Ask, split: AnySplit, prepared: Preprocessing) -> Proof:
    """Both on the CPU."""
    theirs, own = [], []
    for batch in batches(split, prepared, BATCH):
        theirs.append(student(batch.images))
        own.append(ours(batch.images))
    expected, found = torch.cat(theirs), torch.cat(own)
    labels = split.labels.cpu()
    shape = (prepared.channels, prepared.size, prepared.size)
    images = torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(0))
    return Proof(
        images=len(whole_labels(labels)),
        difference=(found - expected).abs().max().item() if found.shape == expected.shape else float("inf"),
        largest=expected.abs().max().item(),
        student_accuracy=scored(expected, labels).top1,
        accuracy=scored(found, labels).top1,
        same_class=agreement(found, expected, labels),
        student_latency=_latency(student, images),
        latency=_latency(ours, images),
        threads=torch.get_num_threads(),
    )


def _latency(ask: Ask, images: Tensor) -> Latency:
    return Latency(_milliseconds(lambda: ask(images[:1])), _milliseconds(lambda: ask(images)))


def _milliseconds(work: Callable[[], object]) -> float:
    work()
    work()
    began = time.perf_counter()
    times: list[float] = []
    while len(times) < _LEAST or (len(times) < _MOST and time.perf_counter() - began < _SECONDS):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1000)
    return round(median(times), 3)
