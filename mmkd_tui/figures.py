"""Shares and moments as a person reads them, the same in the app, in commands and in reports."""

from __future__ import annotations

from datetime import datetime


def percent(share: float | None, digits: int = 2) -> str:
    """0.9871 -> `98.71 %`; "" for None."""
    return "" if share is None else f"{100 * share:.{digits}f} %"


def moment(when: object, *, short: bool = False) -> str:
    """Seconds since 1970, or a text in ISO 8601, in the local time: `2026-03-31 14:05`; "" for what is none.

    `short`: `03-31 14:05`, or the day alone where that was in another year.
    """
    try:
        found = datetime.fromtimestamp(when) if isinstance(when, float | int) else datetime.fromisoformat(str(when)).astimezone()
    except (ValueError, OverflowError, OSError):
        return ""
    if not short:
        return f"{found:%Y-%m-%d %H:%M}"
    return f"{found:%m-%d %H:%M}" if found.year == datetime.now().year else f"{found:%Y-%m-%d}"


def number_of(count: int, what: str) -> str:
    """`1 epoch`, `3 epochs`."""
    return f"{count} {what}{'s' * (count != 1)}"
