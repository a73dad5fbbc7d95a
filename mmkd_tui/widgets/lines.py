"""Widgets that are drawn as lines of text: what they share, above all that a redraw repaints only the cells that changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.geometry import Region
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from engine.text import one_line
from mmkd_tui.widgets.glyphs import Glyphs, glyphs

LABEL_LIMIT = 120  # characters of an untrusted name that are looked at


class Span(NamedTuple):
    """Some text in one style: the name of a component class, or "" for the widget's own."""

    text: str
    role: str = ""


Line = tuple[Span, ...]


def escaped(text: str, ascii: bool) -> str:
    """In ASCII, what is not ASCII as an escape; else the text as it is."""
    return text.encode("ascii", "backslashreplace").decode("ascii") if ascii else text


def shown(name: str, ascii: bool) -> str:
    """An untrusted name as harmless text on one line; in ASCII, what is not ASCII is escaped."""
    return escaped(one_line(name, LABEL_LIMIT), ascii)


def fit(text: str, width: int) -> str:
    """`text` in exactly `width` cells: cut or padded on the right."""
    return set_cell_size(text, max(width, 0))


def cut(text: str, width: int, more: str) -> str:
    """`text` in at most `width` cells, the middle replaced by `more`: names tend to differ at their ends."""
    if cell_len(text) <= width:
        return text
    if width <= 1:
        return more[: max(width, 0)]
    right = (width - 1) // 2
    tail = ""
    for character in reversed(text):
        if cell_len(character + tail) > right:
            break
        tail = character + tail
    head = set_cell_size(text, width - 1 - cell_len(tail)).rstrip()
    return head + more + tail


def width_of(line: Line) -> int:
    """How wide a line is."""
    return sum(cell_len(span.text) for span in line)


def clip(line: Line, width: int) -> Line:
    """The line in at most `width` cells."""
    if width_of(line) <= width:
        return line
    result: list[Span] = []
    for text, role in line:
        size = cell_len(text)
        result.append(Span(text if size <= width else fit(text, width), role))
        width -= size
        if width <= 0:
            break
    return tuple(result)


def changed(old: Line, new: Line) -> tuple[int, int] | None:
    """The columns from..to (exclusive) in which two lines of one width differ; None where they are the same."""
    if old == new:
        return None
    before = [(character, span.role) for span in old for character in span.text]
    after = [(character, span.role) for span in new for character in span.text]
    width = len(after)
    if len(before) != width or any(cell_len(span.text) != len(span.text) for span in (*old, *new)):
        return 0, max(map(width_of, (old, new)))
    first = next((i for i in range(width) if before[i] != after[i]), width)
    last = next((i for i in range(width - 1, first - 1, -1) if before[i] != after[i]), first - 1)
    return (first, last + 1) if first <= last else None


def joined(cells: Iterable[Span]) -> Line:
    """Spans with neighbours of one style put together."""
    result: list[Span] = []
    text: list[str] = []
    role = ""
    for span in cells:
        if span.role != role and text:
            result.append(Span("".join(text), role))
            text = []
        role = span.role
        text.append(span.text)
    if text:
        result.append(Span("".join(text), role))
    return tuple(result)


class LinesWidget(Widget):
    """A widget whose picture is a list of lines. Subclasses implement `draw` and call `changed_data` when they have new data."""

    DEFAULT_CSS = """
    LinesWidget { width: 1fr; height: 1fr; }
    """

    ascii: reactive[bool] = reactive(False, init=False)

    def __init__(self, *, ascii: bool = False, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._lines: list[Line] = []
        self._drawn_size = (-1, -1)
        self._stale = True
        self._scheduled = False
        self.set_reactive(LinesWidget.ascii, ascii)

    @property
    def glyphs(self) -> Glyphs:
        return glyphs(self.ascii)

    def draw(self, width: int, height: int) -> list[Line]:
        """The picture, `height` lines of `width` cells; missing lines are blank and lines of another length are cut or padded."""
        raise NotImplementedError

    def watch_ascii(self) -> None:
        self.changed_data()

    def changed_data(self) -> None:
        """Have the picture redrawn, once, however often this is called while one message is handled."""
        self._stale = True
        if self.is_attached and not self._scheduled:
            self._scheduled = True
            self.call_next(self._redraw)

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        if self._stale or self._drawn_size != (width, height):
            self._draw(width, height)
        line = self._lines[y] if y < len(self._lines) else ()
        return self.strip(line, width)

    def strip(self, line: Line, width: int) -> Strip:
        """A line in this widget's styles."""
        own = self.rich_style
        segments = [Segment(text, self.get_component_rich_style(role) if role else own) for text, role in joined(line)]
        return Strip(segments).adjust_cell_length(width, own)

    def _draw(self, width: int, height: int) -> None:
        self._lines = self.draw(width, height)[:height] if width > 0 and height > 0 else []
        self._drawn_size = (width, height)
        self._stale = False

    def _redraw(self) -> None:
        self._scheduled = False
        width, height = self.size
        if not self._stale or not self.is_attached:
            return
        if not self.is_on_screen or self._drawn_size != (width, height):
            self.refresh()  # drawn when it is next seen
            return
        before = self._lines
        self._draw(width, height)
        rows = max(len(before), len(self._lines))
        regions = []
        for y in range(rows):
            both_have = y < len(before) and y < len(self._lines)
            columns = changed(before[y], self._lines[y]) if both_have else (0, width)
            if columns is not None:
                regions.append(Region(columns[0], y, columns[1] - columns[0], 1))
        if regions:
            self.refresh(*regions)
