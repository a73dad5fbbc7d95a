"""Against closed forms and printed tables, not against the library that computes them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.tables.statistics import compare, holm, summarise


def test_a_summary_is_that_of_the_textbook() -> None:
    found = summarise([75.1, 75.9, 76.0, 75.5, 76.5])
    assert found.n == 5
    assert found.mean == pytest.approx(75.8)
    # Squared deviations: .49 + .01 + .04 + .09 + .49 = 1.12, by n - 1 = 4.
    assert found.std == pytest.approx(math.sqrt(0.28))
    # Any printed table of Student's t: 2.776 for 4 degrees of freedom, 95 %, two-sided.
    assert found.half_width == pytest.approx(2.776 * math.sqrt(0.28) / math.sqrt(5), rel=2e-4)


@pytest.mark.parametrize(("degrees", "quantile"), [(1, 12.706), (2, 4.303), (9, 2.262), (29, 2.045)])
def test_the_interval_uses_students_quantiles(degrees: int, quantile: float) -> None:
    values = [50.0 + (-1) ** i for i in range(degrees + 1)]
    found = summarise(values)
    assert found.std is not None
    assert found.half_width == pytest.approx(quantile * found.std / math.sqrt(degrees + 1), rel=3e-4)


def test_one_value_has_no_spread_and_none_has_nothing() -> None:
    assert summarise([70.0]).mean == 70.0
    assert summarise([70.0]).std is summarise([70.0]).half_width is None
    assert summarise([]).n == 0
    assert summarise([]).mean is None


def test_the_paired_test_with_two_pairs_is_cauchys() -> None:
    # One degree of freedom: t is Cauchy's, so p = 1 - (2 / pi) atan |t|. Differences 1 and 3: mean 2, error 1, t = 2.
    found = compare({0: 71.0, 1: 75.0}, {0: 70.0, 1: 72.0})
    assert found.pairs == 2
    assert found.difference == pytest.approx(2.0)
    assert found.p == pytest.approx(1 - 2 / math.pi * math.atan(2))


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3).filter(lambda d: max(d) - min(d) > 1e-3))
def test_the_paired_test_with_three_pairs_has_a_closed_form(differences: list[float]) -> None:
    # Two degrees of freedom: P(|T| > t) = 1 - t / sqrt(2 + t^2).
    reference = {0: 70.0, 1: 71.5, 2: 69.0}
    method = {seed: reference[seed] + differences[seed] for seed in reference}
    mean = sum(differences) / 3
    error = math.sqrt(sum((d - mean) ** 2 for d in differences) / 2 / 3)
    t = abs(mean) / error
    assert compare(method, reference).p == pytest.approx(1 - t / math.sqrt(2 + t * t), abs=1e-6)


def test_only_seeds_that_both_have_are_compared() -> None:
    found = compare({0: 71.0, 1: 75.0, 7: 1.0}, {0: 70.0, 1: 72.0, 3: 99.0})
    assert (found.pairs, found.difference) == (2, pytest.approx(2.0))


@pytest.mark.parametrize("method", [{0: 70.5}, {0: 70.5, 1: 71.5, 2: 72.5}, {0: 70.0, 1: 71.0}])
def test_no_p_for_one_pair_or_equal_differences(method: dict[int, float]) -> None:
    assert compare(method, {0: 70.0, 1: 71.0, 2: 72.0}).p is None
    assert compare(method, {0: 70.0, 1: 71.0, 2: 72.0}).difference is not None


def test_nothing_in_common_is_no_comparison() -> None:
    assert compare({1: 70.0}, {0: 70.0}).difference is None


def test_holms_correction_by_hand() -> None:
    # Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04; the last is raised to the one before it.
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == [
        pytest.approx(0.03), pytest.approx(0.06), None, pytest.approx(0.06), pytest.approx(0.02)
    ]  # fmt: skip
    assert holm([0.7, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(values: list[float]) -> None:
    corrected = holm(values)
    for p, c in zip(values, corrected, strict=True):
        assert c is not None
        assert p <= c <= min(1.0, p * len(values)) + 1e-12
    order = sorted(range(len(values)), key=values.__getitem__)
    ranked = [corrected[index] for index in order]
    assert ranked == sorted(ranked)  # type: ignore[type-var]
