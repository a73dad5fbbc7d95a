"""The signals that stop a command of many runs."""

from __future__ import annotations

import os
import signal

import pytest

from mmkd_tui.cli.many import stop_signals

BOTH = (signal.SIGINT, signal.SIGTERM)
NOTICES = (signal.SIGUSR1, signal.SIGUSR2)


@pytest.mark.parametrize("first", BOTH, ids=lambda number: number.name)
@pytest.mark.parametrize("second", BOTH, ids=lambda number: number.name)
def test_a_first_signal_is_noted_and_a_second_one_later_ends_at_once(
    first: signal.Signals, second: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.control.TOGETHER", 0.0)
    before = [signal.getsignal(number) for number in BOTH]
    with stop_signals() as stops:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), first)
        assert stops == [first]
        with pytest.raises((KeyboardInterrupt, SystemExit)) as end:
            os.kill(os.getpid(), second)
    assert end.type is (KeyboardInterrupt if second == signal.SIGINT else SystemExit)
    assert getattr(end.value, "code", 143) == 143
    assert stops == [first]
    assert [signal.getsignal(number) for number in BOTH] == before


def test_what_comes_with_the_first_signal_is_the_same_request_unless_a_person_insists() -> None:
    with stop_signals() as stops:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stops[0] == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", NOTICES, ids=lambda number: number.name)
def test_a_notice_that_the_job_will_end_is_a_wish_to_stop(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop_signals() as stops:
            os.kill(os.getpid(), number)
            assert stops == [number]
        assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)
