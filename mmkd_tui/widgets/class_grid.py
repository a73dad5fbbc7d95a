"""`ClassGrid`: which teacher is trusted on which class, a row a class, for any number of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.geometry import Size
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mmkd_tui.widgets.glyphs import Glyphs, glyphs
from mmkd_tui.widgets.lines import Line, Span, cut, fit, shown
from mmkd_tui.widgets.strip import HEATS, heat, heat_top

_MOST_NAME = 24
_MOST_COLUMN = 18
_LEAST_COLUMN = 10  # heat, number, mark and the spaces between


def header(teachers: Sequence[str], column: int, glyphs: Glyphs) -> Line:
    """The names of the teachers over their columns."""
    return tuple(
        Span(fit(" " + cut(shown(name, glyphs.ascii), column - 1, glyphs.more), column), "class-grid--header")
        for name in teachers
    )


def row_of(weights: Sequence[float], column: int, glyphs: Glyphs) -> Line:
    """The weights of one class; the largest is bold and has a mark."""
    finite = [weight for weight in weights if math.isfinite(weight)]
    largest = max(finite, default=None)
    top = heat_top(len(weights))
    spans: list[Span] = []
    for weight in weights:
        cell = heat(weight, top, glyphs, "class-grid")
        spans += [Span(" "), Span(cell.text + " ", cell.role)]
        if not math.isfinite(weight):
            spans += [Span("NaN", "class-grid--alarm"), Span(" " * (column - 6))]
        elif weight == largest and min(finite) < weight:
            spans.append(Span(fit(f"{weight:5.3f}{glyphs.largest}", column - 3), "class-grid--largest"))
        else:
            spans.append(Span(fit(f"{weight:5.3f}", column - 3), "class-grid--number"))
    return tuple(spans)


class ClassGrid(ScrollView, can_focus=True):
    """Weights by class and teacher. Names stay in sight while it scrolls; only the lines in sight are drawn."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "class-grid--header",
        "class-grid--name",
        "class-grid--number",
        "class-grid--largest",
        "class-grid--note",
        "class-grid--alarm",
        *(f"class-grid--heat-{level}" for level in range(HEATS)),
    }

    DEFAULT_CSS = """
    ClassGrid {
        width: 1fr;
        height: 1fr;
        & > .class-grid--header { text-style: bold underline; }
        & > .class-grid--number { color: $text-muted; }
        & > .class-grid--largest { text-style: bold; }
        & > .class-grid--note { color: $text-muted; }
        & > .class-grid--alarm { color: $text-error; text-style: bold reverse; }
        & > .class-grid--heat-0, & > .class-grid--heat-1 { color: $text-secondary; }
        & > .class-grid--heat-2 { color: $text-primary; }
        & > .class-grid--heat-3 { color: $text-success; }
        & > .class-grid--heat-4 { color: $text-warning; }
    }
    """

    ascii: reactive[bool] = reactive(False, init=False)

    def __init__(self, *, ascii: bool = False, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.set_reactive(ClassGrid.ascii, ascii)
        self._classes_shown: tuple[str, ...] = ()
        self._teachers: tuple[str, ...] = ()
        self._weights: tuple[tuple[float, ...], ...] = ()
        self._name_width = self._column_width = 0
        self._note = "waiting for the first epoch"

    def say(self, note: str) -> None:
        """One line in the place of weights."""
        self._note = note
        self._classes_shown, self._teachers, self._weights = (), (), ()
        self._measure()
        self.refresh()

    def show(self, classes: tuple[str, ...], teachers: tuple[str, ...], weights: tuple[tuple[float, ...], ...]) -> None:
        """`weights` [C][K]. All names are untrusted. Keeps the place it is scrolled to."""
        names_changed = (classes, teachers, len(weights)) != (self._classes_shown, self._teachers, len(self._weights))
        self._classes_shown, self._teachers, self._weights = classes, teachers, weights
        if names_changed:
            self._measure()
        self.refresh()

    def watch_ascii(self) -> None:
        self._measure()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        glyphs_now = glyphs(self.ascii)
        own = self.rich_style
        if not self._weights:
            note: Line = (Span(shown(self._note, self.ascii), "class-grid--note"),) if y == 0 else ()
            return self._strip(note).adjust_cell_length(width, own)
        index = y - 1 + self.scroll_offset.y  # the first line is the header, wherever the rest is scrolled to
        if index >= len(self._weights):
            return Strip.blank(width, own)
        if y == 0:
            name, role, cells = "class", "class-grid--header", header(self._teachers, self._column_width, glyphs_now)
        else:
            name = self._classes_shown[index] if index < len(self._classes_shown) else str(index)
            role, cells = "class-grid--name", row_of(self._weights[index], self._column_width, glyphs_now)
        title = fit(cut(shown(name, self.ascii), self._name_width - 1, glyphs_now.more), self._name_width)
        left = self.scroll_offset.x
        scrolled = self._strip(cells).crop(left, left + max(width - self._name_width, 0))
        return Strip.join([self._strip((Span(title, role),)), scrolled]).adjust_cell_length(width, own)

    def _strip(self, line: Line) -> Strip:
        own = self.rich_style
        return Strip([Segment(text, self.get_component_rich_style(role) if role else own) for text, role in line])

    def _measure(self) -> None:
        widths = [cell_len(shown(name, self.ascii)) for name in ("class", *self._classes_shown)]
        self._name_width = min(max(widths), _MOST_NAME) + 1
        widest = max((cell_len(shown(name, self.ascii)) for name in self._teachers), default=0)
        self._column_width = min(max(widest + 2, _LEAST_COLUMN), _MOST_COLUMN)
        columns = max(map(len, self._weights), default=0)
        self.virtual_size = Size(self._name_width + self._column_width * columns, 1 + len(self._weights))
