"""The history of a metric: bounded, true to its extremes, and cheap to sample."""

from __future__ import annotations

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkd_tui.widgets.series import Series, smoothed

VALUES = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))


def filled(values: list[float | None], limit: int = 4096) -> Series:
    series = Series(limit)
    series.extend(enumerate(values))
    return series


def test_columns_hold_low_high_mean_and_gaps() -> None:
    columns = filled([1.0, 3.0, None, math.nan, 5.0, 6.0]).sampled(3, 0, 6)
    assert columns[0] == (1.0, 3.0, 2.0, False)
    assert columns[1].gap
    assert math.isnan(columns[1].low)
    assert columns[2] == (5.0, 6.0, 5.5, False)


@given(st.lists(VALUES, max_size=200), st.integers(2, 17), st.integers(1, 40))
def test_merging_keeps_the_bound_the_extremes_and_the_gaps(values: list[float | None], limit: int, width: int) -> None:
    series = filled(values, limit)
    finite = [v for v in values if v is not None and abs(v) < 1e100]
    assert len(series) <= limit
    assert series.gaps == len(values) - len(finite)
    columns = series.sampled(width, 0, max(len(values), 1))
    lows = [column.low for column in columns if column.low == column.low]
    assert (min(lows) if lows else None) == (min(finite) if finite else None)
    assert series.highest() == (max(finite) if finite else None)
    assert any(column.gap for column in columns) == (len(finite) < len(values))


@given(st.lists(VALUES, min_size=1, max_size=120), st.integers(2, 33))
def test_sampling_as_it_grows_gives_what_sampling_at_the_end_gives(values: list[float | None], limit: int) -> None:
    growing = Series(limit)
    for x, y in enumerate(values):
        growing.append(x, y)
        seen = growing.sampled(10, 0, 120)
    assert repr(seen) == repr(filled(values, limit).sampled(10, 0, 120))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(2, 20))
def test_the_mean_survives_merging(values: list[float], limit: int) -> None:
    (column,) = filled(list(values), limit).sampled(1, 0, 1e9)
    assert min(values) - 1e-6 <= column.mean <= max(values) + 1e-6


def test_memory_is_flat_over_a_million_values() -> None:
    series = Series(256)
    series.extend((i, float(i % 7)) for i in range(10_000))
    series.sampled(80, 0, 1e6)
    before = len(pickle.dumps((series.__dict__, 0)))
    series.extend((i, float(i % 7)) for i in range(10_000, 1_010_000))
    series.sampled(80, 0, 1e6)
    assert len(series) <= 256
    assert series.appended == 1_010_000
    assert len(pickle.dumps((series.__dict__, 0))) < before + 10_000


def test_a_place_that_is_no_number_is_left_out() -> None:
    series = Series()
    series.append(math.nan, 1.0)
    series.append(math.inf, 1.0)
    assert len(series) == 0


def test_smoothing() -> None:
    assert smoothed([1.0, 2.0], 0.0) == [1.0, 2.0]
    assert smoothed([5.0, 5.0, 5.0], 0.9) == pytest.approx([5.0, 5.0, 5.0])
    assert smoothed([0.0, 1.0], 0.5) == pytest.approx([0.0, 2 / 3])
    with_gap = smoothed([1.0, math.nan, 1.0], 0.5)
    assert math.isnan(with_gap[1])
    assert with_gap[2] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="below 1"):
        smoothed([1.0], 1.0)
