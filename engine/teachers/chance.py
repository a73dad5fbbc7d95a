"""Whether a teacher is any better than guessing: wrong weights, classes in another order or other pixels look just so."""

from __future__ import annotations

import math
from collections.abc import Sequence

DEVIATIONS = 3.0  # standard errors of a guesser's accuracy that leave no room for luck
MARGIN = 0.1  # twice as good as guessing is asked for, but never more than this above it


def chance_level(labels: Sequence[int]) -> float:
    """The accuracy of always naming the class that is most frequent among `labels`."""
    counts: dict[int, int] = {}
    for label in labels:
        counts[label] = counts.get(label, 0) + 1
    return max(counts.values()) / len(labels)


def needed(chance: float, images: int) -> float:
    """The accuracy on `images` images that a teacher must exceed: twice the chance level or a tenth above it, whichever is less,
    and no less than three standard errors of the binomial distribution above it.
    """
    error = math.sqrt(chance * (1 - chance) / images)
    return max(chance + DEVIATIONS * error, min(2 * chance, chance + MARGIN))
