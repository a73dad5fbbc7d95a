"""What a few seeds say: mean, deviation, confidence interval, and paired tests with Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

LEVEL = 0.95  # of the confidence intervals


@dataclass(frozen=True, slots=True)
class Summary:
    """Of n values; in their unit. None where there are too few for it."""

    n: int
    mean: float | None = None
    std: float | None = None  # of the sample: n - 1 in the denominator
    half_width: float | None = None  # of the mean's confidence interval


@dataclass(frozen=True, slots=True)
class Comparison:
    """A method held against the reference, over the seeds that both have."""

    pairs: int
    difference: float | None = None  # mean of (method - reference)
    p: float | None = None  # two-sided, of the paired t-test
    p_holm: float | None = None  # corrected for all comparisons of the table


def summarise(values: Sequence[float]) -> Summary:
    """Mean, standard deviation, and half the width of the mean's 95 % confidence interval.

    The interval is Student's: mean +- t(0.975; n - 1) * std / sqrt(n).
    """
    n = len(values)
    if n == 0:
        return Summary(0)
    if n == 1:
        return Summary(1, values[0])
    from scipy.stats import t  # takes a second to import

    deviation = stdev(values)
    return Summary(n, fmean(values), deviation, float(t.ppf((1 + LEVEL) / 2, n - 1)) * deviation / math.sqrt(n))


def compare(method: Mapping[int, float], reference: Mapping[int, float]) -> Comparison:
    """Both by seed. No p where there are fewer than two pairs, or where all differences are the same."""
    common = sorted(method.keys() & reference.keys())
    if not common:
        return Comparison(0)
    ours, theirs = [method[seed] for seed in common], [reference[seed] for seed in common]
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean = fmean(differences)
    # Accuracies are counts over a test split: differences that are the same may differ by rounding, and t would be 1e15.
    if len(common) < 2 or max(abs(difference - mean) for difference in differences) < 1e-9:
        return Comparison(len(common), mean)
    from scipy.stats import ttest_rel

    return Comparison(len(common), mean, float(ttest_rel(ours, theirs).pvalue))


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p values corrected by Holm's step-down procedure (Scandinavian Journal of Statistics 6, 1979); None stays None.

    The k-th smallest of m (k from 0) is multiplied by m - k; none is smaller than that of a smaller p, and none exceeds 1.
    """
    given = sorted((value, index) for index, value in enumerate(values) if value is not None)
    corrected: list[float | None] = [None] * len(values)
    most = 0.0
    for rank, (value, index) in enumerate(given):
        most = max(most, min(1.0, value * (len(given) - rank)))
        corrected[index] = most
    return corrected
