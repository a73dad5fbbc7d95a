"""The scales of a chart: ranges that stay still while data moves, ticks a person would choose, and short numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

_TINIEST = 1e-120  # keeps the arithmetic of ticks far from underflow


@dataclass(frozen=True, slots=True)
class Scale:
    """From `low` to `high`, both included, linear or logarithmic. Low < high, and both > 0 where `log`."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def fraction(self, value: float) -> float:
        """Where a value lies: 0 at `low`, 1 at `high`."""
        if self.log:
            if value <= 0:
                return -math.inf
            return (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)


def nice_step(rough: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `rough` (up to rounding)."""
    power = 10.0 ** math.floor(math.log10(max(rough, _TINIEST)))
    return next((m * power for m in (1.0, 2.0, 5.0) if m * power >= rough * (1 - 1e-9)), 10.0 * power)


def linear(low: float, high: float, most_ticks: int) -> Scale:
    """A scale that covers low..high and begins and ends at a tick."""
    low, high = _apart(low, high)
    intervals = max(most_ticks - 1, 1)
    step = nice_step((high - low) / intervals)
    while True:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= intervals or step > high - low:
            break
        step = nice_step(step * 1.5)
    last = max(last, first + 1)
    return Scale(first * step, last * step, tuple(i * step for i in range(first, last + 1)))


def logarithmic(low: float, high: float, most_ticks: int) -> Scale:
    """A scale over positive numbers from one of 1, 2, 5 times a power of ten to another."""
    low, high = max(low, _TINIEST), max(high, _TINIEST)
    first, last = _rung(low, up=False), _rung(high, up=True)
    if last <= first:
        last = first + 1
    rungs = range(first, last + 1)
    every = next((n for n in (1, 3, 6, 9, 15, 30, 60, 90, 150, 300, 900) if (last - first) // n + 1 <= max(most_ticks, 2)), 900)
    if every == 1:
        kept = list(rungs)
    else:
        kept = [r for r in rungs if r % every == 0]  # whole powers of ten
        if len(kept) < 2:
            kept = [first, last]
    return Scale(_at(first), _at(last), tuple(_at(r) for r in kept), log=True)


def time_scale(low: float, high: float, most_ticks: int) -> Scale:
    """A scale that keeps its ends as they are, with ticks at nice places between them."""
    low, high = _apart(low, high) if high <= low else (low, high)
    span = high - low
    step = nice_step(span / max(most_ticks - 1, 1))
    if span >= 2:
        step = max(step, 1.0)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last - first > 1000:  # a narrow range far from 0: neighbouring numbers are as far apart as its ticks
        return Scale(low, high, (low, high))
    return Scale(low, high, tuple(i * step for i in range(first, last + 1)))


def round_end(value: float) -> float:
    """A round number at or above a positive value, near enough that a growing axis uses most of its width."""
    if value <= _TINIEST:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((m * power for m in (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0) if m * power >= value), 10.0 * power)


def number(value: float, step: float | None = None, percent: bool = False) -> str:
    """A short number: as many decimals as ticks `step` apart need, or three significant digits."""
    if percent and abs(value) < 100.0:
        decimals = 1 if step is None else _decimals(100.0 * step)
        return f"{100.0 * value:.{min(decimals, 3)}f}%"
    size = abs(value)
    if value == 0 or (step is not None and size < step / 2):
        return "0"
    if size >= 1e5 or size < (1e-3 if step is None else 1e-4):
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    decimals = max(2 - math.floor(math.log10(size)), 0) if step is None else _decimals(step)
    return f"{value:.{min(decimals, 5)}f}"


def _decimals(step: float) -> int:
    return max(-math.floor(math.log10(max(step, _TINIEST)) + 1e-9), 0)


def _apart(low: float, high: float) -> tuple[float, float]:
    """The range, widened where it is too narrow to be divided."""
    size = max(abs(low), abs(high))
    if high - low >= size * 1e-6 and high - low > _TINIEST:
        return low, high
    if size <= _TINIEST:
        return 0.0, 1.0
    return low - 0.1 * size, high + 0.1 * size


def _at(rung: int) -> float:
    return float(f"{(1, 2, 5)[rung % 3]}e{rung // 3}")


def _rung(value: float, up: bool) -> int:
    """The rung of 1, 2, 5, 10, 20, ... at or below a value, or at or above it."""
    rung = 3 * math.floor(math.log10(value)) - 1
    while _at(rung + 1) <= value * (1 + 1e-12):
        rung += 1
    return rung if not up or _at(rung) >= value * (1 - 1e-12) else rung + 1
