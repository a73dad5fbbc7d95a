"""Which signals are one request to stop, and which a second one."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest

from engine.control import TOGETHER, StopSignals

INT, TERM, NOTICE, OTHER = signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2
SOON, LATE = TOGETHER / 2, TOGETHER + 1


@pytest.mark.parametrize(
    ("came", "ends"),
    [
        ([(0, TERM), (SOON, INT)], False),
        ([(0, TERM), (SOON, TERM)], False),
        ([(0, INT), (SOON, TERM)], False),
        ([(0, INT), (SOON, INT)], True),
        ([(0, TERM), (SOON, INT), (SOON, INT)], True),
        ([(0, TERM), (LATE, TERM)], True),
        ([(0, INT), (LATE, TERM)], True),
        ([(0, TERM), (LATE, INT)], True),
        ([(0, TERM), (SOON, TERM), (LATE, TERM)], True),
        ([(0, NOTICE), (90, TERM)], False),
        ([(0, OTHER), (SOON, INT), (90, TERM), (91, INT)], False),
        ([(0, NOTICE), (90, TERM), (93, TERM)], True),
        ([(0, NOTICE), (SOON, TERM), (90, TERM)], True),
        ([(0, NOTICE), (LATE, INT)], True),
        ([(0, TERM), (LATE, NOTICE)], True),
    ],
)
def test_a_second_request_is_told_from_the_first(
    came: list[tuple[float, int]], ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops = StopSignals()
    *before, last = [_at(moment, number, stops, monkeypatch) for moment, number in came]
    assert not any(before)
    assert last is ends
    assert stops.first == came[0][1]


def test_the_time_to_stop_in_begins_with_the_first_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    stops = StopSignals()
    _at(5.0, INT, stops, monkeypatch)
    assert stops.terminated is None
    for moment in (5.5, 6.0):
        _at(moment, TERM, stops, monkeypatch)
    assert stops.terminated == 5.5


def _at(moment: float, number: int, stops: StopSignals, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr("engine.control.time", SimpleNamespace(monotonic=lambda: moment))
    return stops.take(number)
