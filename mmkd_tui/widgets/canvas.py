"""A grid of cells that lines are drawn on, in braille (2x4 dots a cell) or in ASCII (1x2), with a style a cell."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len

from mmkd_tui.widgets.lines import Line, Span
from mmkd_tui.widgets.series import Column

_BRAILLE = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # [column of the cell][dot from the top]
_ASCII = ((1, 2),)
_ASCII_GLYPHS = " '.:"


class Canvas:
    """`columns` x `rows` cells. Dots are counted from the left and from the top."""

    def __init__(self, columns: int, rows: int, ascii: bool) -> None:
        self.columns = columns
        self.rows = rows
        self._bits = _ASCII if ascii else _BRAILLE
        self._glyphs = _ASCII_GLYPHS if ascii else "".join(chr(0x2800 + mask) for mask in range(256))
        self.dots_x = columns * len(self._bits)
        self.dots_y = rows * len(self._bits[0])
        self._masks = [[0] * columns for _ in range(rows)]
        self.text: list[list[str]] = [[" "] * columns for _ in range(rows)]
        self.roles: list[list[str]] = [[""] * columns for _ in range(rows)]

    @property
    def dots_per_column(self) -> int:
        return len(self._bits)

    def row_of(self, dot: int) -> int:
        """The row of a dot."""
        return dot // len(self._bits[0])

    def dot_at(self, fraction: float) -> int:
        """The dot at a height: 0 is the bottom, 1 the top; what lies beyond is drawn at the edge."""
        return round((1.0 - min(max(fraction, 0.0), 1.0)) * (self.dots_y - 1))

    def run(self, x: int, top: int, bottom: int, role: str) -> None:
        """Dots from `top` down to `bottom`, both included."""
        bits = self._bits[x % len(self._bits)]
        column, height = x // len(self._bits), len(bits)
        for row in range(top // height, bottom // height + 1):
            first = max(top - row * height, 0)
            last = min(bottom - row * height, height - 1)
            mask = self._masks[row][column]
            for dot in range(first, last + 1):
                mask |= bits[dot]
            self._masks[row][column] = mask
            self.text[row][column] = self._glyphs[mask]
            self.roles[row][column] = role

    def trace(self, spans: Sequence[tuple[int, int] | None], columns: Sequence[Column], role: str) -> None:
        """One series: `spans` are its (top, bottom) dots in each column; neighbours are linked unless a gap lies between."""
        before: int | None = None
        for x, span in enumerate(spans):
            if columns[x].gap:
                before = None
            if span is None:
                continue
            top, bottom = span
            if before is not None:
                self._link(before, x, spans[before] or span, span, role)
            self.run(x, top, bottom, role)
            before = None if columns[x].gap else x

    def _link(self, x0: int, x1: int, a: tuple[int, int], b: tuple[int, int], role: str) -> None:
        """A line between the nearest ends of two columns."""
        if a[0] <= b[1] and b[0] <= a[1]:  # they overlap: level, in the middle of what they share
            start = end = (max(a[0], b[0]) + min(a[1], b[1])) // 2
        else:
            start, end = (a[1], b[0]) if a[1] < b[0] else (a[0], b[1])
        previous = start
        for x in range(x0 + 1, x1 + 1):
            level = round(start + (end - start) * (x - x0) / (x1 - x0))
            if abs(level - previous) > 1:  # half of a steep step belongs to each of its columns
                half = (previous + level) // 2
                self.run(x - 1, min(previous, half), max(previous, half), role)
                self.run(x, min(half, level), max(half, level), role)
            else:
                self.run(x, level, level, role)
            previous = level

    def put(self, row: int, column: int, text: str, role: str) -> None:
        """Text from a cell on; what would leave the grid is cut."""
        for character in text:
            width = cell_len(character)
            if width == 0:
                if 0 < column <= self.columns:
                    self.text[row][column - 1] += character
                continue
            if column < 0 or column + width > self.columns:
                return
            self.text[row][column] = character
            self.roles[row][column] = role
            for extra in range(1, width):
                self.text[row][column + extra] = ""
                self.roles[row][column + extra] = role
            column += width

    def free(self, row: int, column: int) -> bool:
        """Whether nothing is drawn in a cell."""
        return self.text[row][column] == " "

    def line(self, row: int) -> Line:
        """A row as spans."""
        spans: list[Span] = []
        text, roles = self.text[row], self.roles[row]
        start = 0
        for column in range(1, self.columns + 1):
            if column == self.columns or roles[column] != roles[start]:
                spans.append(Span("".join(text[start:column]), roles[start]))
                start = column
        return tuple(spans)
