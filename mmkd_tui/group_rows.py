"""Runs that differ in their seeds alone, as a row of a table: what the seeds allow to be said."""

from __future__ import annotations

from engine.comparison import Group
from engine.text import one_line

GROUP_COLUMNS = ("", "preset", "runs", "test accuracy", "std", "95 % CI", "to A", "p", "p Holm")


def group_row(group: Group) -> list[str]:
    """Accuracies in %."""
    summary, test = group.summary, group.comparison
    interval = ""
    if summary.mean is not None and summary.half_width is not None:
        interval = f"{summary.mean - summary.half_width:.2f} to {summary.mean + summary.half_width:.2f}"
    numbers = [number(summary.mean, "{:.2f} %"), number(summary.std, "{:.2f}"), interval]
    tests = [number(test.difference, "{:+.2f}"), number(test.p, "{:.3f}"), number(test.p_holm, "{:.3f}")] if test else [""] * 3
    return [group.letter, one_line(group.name, 40), str(summary.n), *numbers, *tests]


def number(value: float | None, form: str) -> str:
    """Nothing where there is none."""
    return "" if value is None else form.format(value)
