"""The history of one metric in bounded memory, and what a chart needs of it: low, high and mean in each column."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

LIMIT = 4096
ENDLESS = 1e100  # beyond this a metric has diverged; drawn as a gap, and sums of it stay finite


class Column(NamedTuple):
    """What falls into one column of a chart."""

    low: float  # NaN where the column holds no number; so for the next two
    high: float
    mean: float
    gap: bool  # a value that is no number lies here


EMPTY = Column(math.nan, math.nan, math.nan, False)


def smoothed(values: Iterable[float], factor: float) -> list[float]:
    """The exponential moving average, without the pull of its start; 0 gives the values as they are.

    NaN stays NaN and does not enter the average. Raises ValueError for a factor outside 0 <= factor < 1.
    """
    if not 0.0 <= factor < 1.0:
        raise ValueError(f"smoothing must be at least 0 and below 1, not {factor}")
    if factor == 0.0:
        return list(values)
    result: list[float] = []
    total = weight = 0.0
    for value in values:
        if math.isfinite(value):
            total = factor * total + (1.0 - factor) * value
            weight = factor * weight + (1.0 - factor)
            result.append(total / weight)
        else:
            result.append(math.nan)
    return result


@dataclass(slots=True)
class _Sampling:
    """Columns sampled so far for one width and range: while a run goes on, only the newest points are added."""

    width: int
    x_min: float
    x_max: float
    done: int  # whole points that are in the columns
    low: list[float]
    high: list[float]
    total: list[float]
    count: list[int]
    gap: list[bool]

    @classmethod
    def over(cls, width: int, x_min: float, x_max: float) -> _Sampling:
        return cls(width, x_min, x_max, 0, [math.inf] * width, [-math.inf] * width, [0.0] * width, [0] * width, [False] * width)

    def column_at(self, x: float) -> int | None:
        if not self.x_min <= x <= self.x_max:
            return None
        span = self.x_max - self.x_min
        return min(int((x - self.x_min) / span * self.width), self.width - 1) if span > 0 else self.width - 1


class Series:
    """At most `limit` points (x, y), whatever is appended: when it is full, neighbours are merged into one point.

    A point keeps the lowest and the highest value, the mean, and whether a value among them was none (None, NaN, infinite).
    """

    def __init__(self, limit: int = LIMIT) -> None:
        if limit < 2:
            raise ValueError(f"a series keeps at least 2 points, not {limit}")
        self.limit = limit
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.appended = 0
        self.last: float | None = None  # the newest value; None where it was no number
        self.last_x: float | None = None
        self.gaps = 0  # how many values were no number
        self._stride = 1  # values in a whole point
        self._in_newest = 1  # values in the newest point
        self._x = array("d")
        self._low = array("d")
        self._high = array("d")
        self._mean = array("d")
        self._gap = bytearray()
        self._samplings: list[_Sampling] = []  # the last two: a chart may need to look before it knows its width

    def __len__(self) -> int:
        return len(self._x)

    @property
    def first_x(self) -> float | None:
        return self._x[0] if self._x else None

    def append(self, x: float, y: float | None) -> None:
        """Add a value. A place that is not finite is no place: such a value is left out."""
        if not abs(x) < ENDLESS:
            return
        number = y if y is not None and abs(y) < ENDLESS else math.nan
        missing = number != number
        self.appended += 1
        self.gaps += missing
        self.last = None if missing else number
        self.last_x = x
        if self._x and self._in_newest < self._stride:
            self._into_newest(number, missing)
            return
        if len(self._x) == self.limit:
            self._merge_pairs()
            if self._in_newest < self._stride:
                self._into_newest(number, missing)
                return
        self._x.append(x)
        for column in (self._low, self._high, self._mean):
            column.append(number)
        self._gap.append(missing)
        self._in_newest = 1

    def extend(self, points: Iterable[tuple[float, float | None]]) -> None:
        """Add values, oldest first."""
        for x, y in points:
            self.append(x, y)

    def places(self) -> Sequence[float]:
        """The x of each point."""
        return self._x

    def highest(self) -> float | None:
        """The highest value seen."""
        return max((value for value in self._high if value == value), default=None)

    def sampled(self, width: int, x_min: float, x_max: float) -> list[Column]:
        """`width` columns over x_min..x_max, both included. Each call with the same range costs only what is new."""
        if width < 1:
            return []
        state = next((s for s in self._samplings if (s.width, s.x_min, s.x_max) == (width, x_min, x_max)), None)
        if state is None:
            state = _Sampling.over(width, x_min, x_max)
            self._samplings = [*self._samplings[-1:], state]
        newest = len(self._x) - 1
        for index in range(state.done, newest):
            self._sample(state, index)
        state.done = max(newest, 0)
        columns = [
            Column(low, high, total / count, gap) if count else Column(math.nan, math.nan, math.nan, gap)
            for low, high, total, count, gap in zip(state.low, state.high, state.total, state.count, state.gap, strict=True)
        ]
        if newest >= 0:  # it may still change, so it never enters the state
            self._overlay_newest(state, columns)
        return columns

    def _sample(self, state: _Sampling, index: int) -> None:
        column = state.column_at(self._x[index])
        if column is None:
            return
        if self._gap[index]:
            state.gap[column] = True
        low, high = self._low[index], self._high[index]
        if low != low:
            return
        if low < state.low[column]:
            state.low[column] = low
        if high > state.high[column]:
            state.high[column] = high
        state.total[column] += self._mean[index]
        state.count[column] += 1

    def _overlay_newest(self, state: _Sampling, columns: list[Column]) -> None:
        column = state.column_at(self._x[-1])
        if column is None:
            return
        low, high, mean = self._low[-1], self._high[-1], self._mean[-1]
        gap = state.gap[column] or bool(self._gap[-1])
        count = state.count[column]
        if low != low:
            columns[column] = columns[column]._replace(gap=gap)
        elif not count:
            columns[column] = Column(low, high, mean, gap)
        else:
            average = (state.total[column] + mean) / (count + 1)
            columns[column] = Column(min(low, state.low[column]), max(high, state.high[column]), average, gap)

    def _into_newest(self, number: float, missing: bool) -> None:
        self._low[-1], self._high[-1], self._mean[-1] = _merged(
            (self._low[-1], self._high[-1], self._mean[-1], self._in_newest), (number, number, number, 1)
        )
        self._gap[-1] |= missing
        self._in_newest += 1

    def _merge_pairs(self) -> None:
        size = len(self._x)
        pairs = range(0, size, 2)
        merged = [_merged(self._point(i), self._point(i + 1)) if i + 1 < size else self._point(i)[:3] for i in pairs]
        self._gap = bytearray(self._gap[i] | (self._gap[i + 1] if i + 1 < size else 0) for i in pairs)
        self._x = self._x[::2]
        self._low, self._high, self._mean = (array("d", column) for column in zip(*merged, strict=True))
        self._in_newest = self._stride if size % 2 else 2 * self._stride
        self._stride *= 2
        self._samplings = []

    def _point(self, index: int) -> tuple[float, float, float, int]:
        return self._low[index], self._high[index], self._mean[index], self._stride


def _merged(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """Two points (low, high, mean, count) as one (low, high, mean)."""
    if a[0] != a[0]:
        return b[0], b[1], b[2]
    if b[0] != b[0]:
        return a[0], a[1], a[2]
    return min(a[0], b[0]), max(a[1], b[1]), (a[2] * a[3] + b[2] * b[3]) / (a[3] + b[3])
