"""When a teacher is taken to be no better than guessing."""

from __future__ import annotations

import math

import pytest

from engine.teachers.chance import chance_level, needed


def test_the_level_is_that_of_the_largest_class() -> None:
    assert chance_level([0, 1, 1, 2]) == 0.5
    assert chance_level(list(range(10)) * 5) == 0.1


@pytest.mark.parametrize(("classes", "images"), [(2, 100), (2, 10_000), (10, 597), (10, 10_000), (100, 10_000), (1000, 50_000)])
def test_a_guesser_hardly_ever_passes(classes: int, images: int) -> None:
    """By the exact binomial distribution: fewer than one guesser in 300."""
    chance = 1 / classes
    least = math.floor(needed(chance, images) * images) + 1

    def log_probability(k: int) -> float:
        choose = math.lgamma(images + 1) - math.lgamma(k + 1) - math.lgamma(images - k + 1)
        return choose + k * math.log(chance) + (images - k) * math.log(1 - chance)

    tail = sum(math.exp(log_probability(k)) for k in range(least, images + 1))
    assert tail < 1 / 300


@pytest.mark.parametrize(
    ("chance", "images", "bound"),
    [(0.01, 10_000, 0.02), (0.1, 10_000, 0.2), (0.5, 10_000, 0.6), (0.1, 100, 0.2), (0.5, 16, 0.875)],
)
def test_the_bound(chance: float, images: int, bound: float) -> None:
    assert needed(chance, images) == pytest.approx(bound)
