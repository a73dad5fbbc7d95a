"""`HistoryStrip`: how the weights of the teachers went over the run, a row a teacher, warmer where they were higher."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual.reactive import reactive

from mmkd_tui.widgets.glyphs import Glyphs
from mmkd_tui.widgets.lines import Line, LinesWidget, Span, clip, cut, fit, joined, shown
from mmkd_tui.widgets.scales import round_end
from mmkd_tui.widgets.series import Series

_LIMIT = 1024  # points a row: more than any terminal has columns
HEATS = 5


def heat(value: float, top: float, glyphs: Glyphs, prefix: str) -> Span:
    """One cell: nothing at 0, the hottest glyph and style at `top` and above."""
    if not math.isfinite(value):
        return Span(glyphs.alarm, f"{prefix}--alarm")
    share = min(max(value / top, 0.0), 1.0)
    levels = len(glyphs.ramp) - 1
    return Span(
        glyphs.ramp[min(math.ceil(share * levels - 1e-9), levels)], f"{prefix}--heat-{min(int(share * HEATS), HEATS - 1)}"
    )


def heat_top(count: int) -> float:
    """The weight that is shown hottest: twice the equal weight, so that equal weights lie in the middle of the ramp."""
    return min(2.0 / max(count, 1), 1.0)


def paint_strip(
    labels: Sequence[str],
    rows: Sequence[Series],
    x_range: tuple[float | None, float | None],
    width: int,
    height: int,
    glyphs: Glyphs,
    numbered: bool = False,
) -> list[Line]:
    """A row a teacher: name, the run from left to right and, if wished, the newest number."""
    if not rows or not any(len(row) for row in rows):
        return [(Span(cut("waiting for the first weights", width, glyphs.more), "history-strip--note"),)]
    names = min(max((cell_len(shown(label, glyphs.ascii)) for label in labels), default=0), 24, width // 3) + 1
    numbers = 6 if numbered and width - names >= 20 else 0
    columns = width - names - numbers
    if columns < 1:
        return []
    first = min(row.first_x for row in rows if row.first_x is not None)
    newest = max(row.last_x for row in rows if row.last_x is not None)
    start = first if x_range[0] is None else x_range[0]
    end = start + round_end(newest - start) if x_range[1] is None else max(x_range[1], newest)
    shown_rows = len(rows) if len(rows) <= height else max(height - 1, 0)
    top = heat_top(len(rows))
    lines: list[Line] = []
    for label, row in list(zip(labels, rows, strict=True))[:shown_rows]:
        cells: list[Span] = []
        past = Span(" ")
        sampled = row.sampled(columns, start, end)
        filled = max((x for x, column in enumerate(sampled) if column.gap or column.mean == column.mean), default=-1)
        for column in sampled[: filled + 1]:
            if column.gap and column.mean != column.mean:
                past = heat(math.nan, top, glyphs, "history-strip")
            elif column.mean == column.mean:
                past = heat(column.mean, top, glyphs, "history-strip")
            cells.append(past)  # between two points the older one still holds
        cells += [Span(" ")] * (columns - len(cells))
        name = Span(fit(cut(shown(label, glyphs.ascii), names - 1, glyphs.more), names), "history-strip--label")
        lines.append(clip((name, *joined(cells), *_number(row, numbers)), width))
    if shown_rows < len(rows):
        lines.append((Span(fit(f"+{len(rows) - shown_rows} more", width), "history-strip--note"),))
    return lines


def _number(row: Series, width: int) -> Line:
    if not width:
        return ()
    if row.last is None:
        return Span("   "), Span("NaN", "history-strip--alarm")
    return Span(" "), Span(f"{row.last:5.3f}"[: width - 1], "history-strip--number")


class HistoryStrip(LinesWidget):
    """The weights of K teachers over the run. Cells run from 0 to twice the equal weight."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "history-strip--label",
        "history-strip--number",
        "history-strip--note",
        "history-strip--alarm",
        *(f"history-strip--heat-{level}" for level in range(HEATS)),
    }

    DEFAULT_CSS = """
    HistoryStrip {
        & > .history-strip--number { text-style: bold; }
        & > .history-strip--note { color: $text-muted; }
        & > .history-strip--alarm { color: $text-error; text-style: bold reverse; }
        & > .history-strip--heat-0, & > .history-strip--heat-1 { color: $text-secondary; }
        & > .history-strip--heat-2 { color: $text-primary; }
        & > .history-strip--heat-3 { color: $text-success; }
        & > .history-strip--heat-4 { color: $text-warning; }
    }
    """

    x_range: reactive[tuple[float | None, float | None]] = reactive((None, None), init=False)

    def __init__(
        self,
        labels: tuple[str, ...] = (),
        *,
        x_range: tuple[float | None, float | None] = (None, None),
        numbered: bool = False,
        ascii: bool = False,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        """`x_range`: the same as the charts', so that the strip lies under them; by default it grows with the data.

        `numbered`: the newest weights too, for a strip that stands without bars.
        """
        super().__init__(ascii=ascii, id=id, classes=classes)
        self.set_reactive(HistoryStrip.x_range, x_range)
        self._numbered = numbered
        self._labels: tuple[str, ...] = ()
        self._rows: list[Series] = []
        self.reset(labels)

    def reset(self, labels: tuple[str, ...]) -> None:
        """Begin anew, with these teachers."""
        self._labels = labels
        self._rows = [Series(_LIMIT) for _ in labels]
        self.changed_data()

    def show(self, labels: tuple[str, ...], rows: Sequence[Series]) -> None:
        """Draw these histories, one a teacher. They stay the caller's, who calls `changed_data` after adding to them."""
        self._labels, self._rows = labels, list(rows)
        self.changed_data()

    def append(self, x: float, weights: Sequence[float | None]) -> None:
        """The weights at a place, one a teacher; missing ones are left out."""
        for row, weight in zip(self._rows, weights, strict=False):
            row.append(x, weight)
        self.changed_data()

    def watch_x_range(self) -> None:
        self.changed_data()

    def draw(self, width: int, height: int) -> list[Line]:
        return paint_strip(self._labels, self._rows, self.x_range, width, height, self.glyphs, self._numbered)
