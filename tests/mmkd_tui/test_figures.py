"""Shares and moments as a person reads them."""

from __future__ import annotations

from datetime import datetime

import pytest
from support.time_zone import in_tokyo

from mmkd_tui.figures import moment, percent


def test_shares() -> None:
    assert [percent(share) for share in (0.98765, 1.0, 0.0, None)] == ["98.77 %", "100.00 %", "0.00 %", ""]
    assert [percent(0.4, digits) for digits in (0, 1)] == ["40 %", "40.0 %"]


def test_a_moment_is_told_in_the_local_time_however_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with in_tokyo(monkeypatch):
        written = (
            "2026-01-02T20:04:05+00:00",
            "2026-01-02T15:04:05-05:00",
            datetime.fromisoformat("2026-01-02T20:04:05Z").timestamp(),
        )
        assert {moment(when) for when in written} == {"2026-01-03 05:04"}
        now = datetime.now().astimezone()
        assert moment(now.timestamp(), short=True) == f"{now:%m-%d %H:%M}"
        assert moment(now.replace(year=2019, day=1).isoformat(), short=True) == f"2019-{now:%m}-01"


@pytest.mark.parametrize("nothing", [None, "yesterday", "", {}, float("nan"), 1e300, 10**4000, "9999-12-31T23:59:59-23:00"])
def test_what_is_no_moment_is_nothing(nothing: object) -> None:
    assert moment(nothing) == moment(nothing, short=True) == ""
