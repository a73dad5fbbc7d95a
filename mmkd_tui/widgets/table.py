"""A list of rows in columns, one of which is chosen by keyboard or mouse; texts are shown as they are, never as markup."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from engine.text import plain
from mmkd_tui.widgets.lines import cut, escaped, fit, shown

GAP = 2  # cells between two columns
LEAST_NOTE = 12  # cells
EDGE = 2  # cells left of the first column, where the chosen row has its mark


@dataclass(frozen=True, slots=True)
class Column:
    """One column. Of those that grow, the first gets the cells that are left."""

    title: str
    width: int
    right: bool = False  # flush right, for numbers
    prose: bool = False  # cut at its end; names are cut in the middle
    grow: bool = False
    least: int = 0  # the table's width from which on it is shown
    most: int = 0  # as wide as it may become with a third of the cells that are left


@dataclass(frozen=True, slots=True)
class Row:
    """One row: a cell a column (of fewer, the last takes the room that is left), and lines below in a quieter style."""

    id: str
    cells: tuple[str, ...]
    mark: str = " "  # one cell, left of the first column
    below: tuple[str, ...] = ()
    strong: bool = False
    note: str = ""  # in the cells that the column that grows has left


class CleanInput(Input):
    """An input whose value can be shown as it is: control characters, typed, pasted or from a file, become their escapes."""

    def validate_value(self, value: str) -> str:
        return plain(value)


class Table(Vertical):
    """The rows, below a line with the columns' titles where there are any."""

    DEFAULT_CSS = """
    Table { height: 1fr; }
    Table > .table--titles { height: 1; color: $text-muted; text-style: bold; text-wrap: nowrap; }
    Table > OptionList {
        height: 1fr; border: none; padding: 0; background: transparent;
        text-wrap: nowrap; text-overflow: ellipsis; scrollbar-size-vertical: 1;
    }
    Table > OptionList:focus { border: none; background-tint: transparent; }
    Table > OptionList > .option-list--option-disabled { text-style: none; }
    Table > OptionList:blur > .option-list--option-highlighted { color: $foreground; background: transparent; text-style: none; }
    """

    class RowMessage(Message):
        """Something about a row."""

        def __init__(self, table: Table, row: str) -> None:
            super().__init__()
            self.table, self.row = table, row

        @property
        def control(self) -> Table:
            return self.table

    class Chosen(RowMessage):
        """Enter was pressed on a row, or it was clicked."""

    class Pointed(RowMessage):
        """The cursor has come to a row."""

    def __init__(self, columns: Sequence[Column], *, ascii: bool = False, focusable: bool = True, id: str | None = None) -> None:
        super().__init__(id=id)
        self.columns = columns
        self.ascii = ascii
        self.rows: list[Row] = []
        self._empty = ""
        self._shown: list[object] = []
        self._wanted: str | None = None
        self._titles = Static("", classes="table--titles", markup=False)
        self._titles.display = any(column.title for column in columns)
        self.body = OptionList(compact=True, markup=False)
        self.body.can_focus = focusable

    def compose(self) -> ComposeResult:
        yield self._titles
        yield self.body

    def show(self, rows: Sequence[Row], empty: str = "") -> None:
        """Replaces the rows; the cursor stays on its row, or else in its place. `empty` is shown where there are none."""
        self.rows, self._empty = list(rows), empty
        if self.is_mounted:
            self._draw()

    @property
    def current(self) -> str | None:
        """The id of the row with the cursor."""
        index = self.body.highlighted
        return self.rows[index].id if index is not None and index < len(self.rows) else None

    def point(self, id: str) -> None:
        """Moves the cursor to a row."""
        self._wanted = id
        if self._shown:  # else when it is drawn
            self._point()

    def _point(self) -> None:
        index = next((number for number, row in enumerate(self.rows) if row.id == self._wanted), None)
        if index is not None:
            self._wanted = None
            self.body.highlighted = index

    def on_mount(self) -> None:
        self._draw()

    def on_resize(self, event: events.Resize) -> None:
        self._draw()

    def _draw(self) -> None:
        width = self.body.scrollable_content_region.width or self.size.width
        if width <= 0:
            return
        widths = self._widths(width)
        titles = tuple(column.title for column in self.columns)
        self._titles.update(" " * EDGE + self._line(titles, widths))
        prompts = [self._prompt(row, widths, width) for row in self.rows]
        ids = [row.id for row in self.rows]
        drawn: list[object] = [ids, self._empty if not ids else "", width]
        if self._shown[:3] == drawn:  # the same rows: only those that look different now
            for index, (before, now) in enumerate(zip(self._shown[3:], prompts, strict=True)):
                if before != now:
                    self.body.replace_option_prompt_at_index(index, now)
        else:
            self._replace(prompts, width)
        self._shown = [*drawn, *prompts]
        if self._wanted is not None:
            self._point()

    def _replace(self, prompts: list[Content], width: int) -> None:
        before, index = self._shown[0] if self._shown else [], self.body.highlighted
        kept = before[index] if isinstance(before, list) and index is not None and index < len(before) else None
        self.body.clear_options()
        if not prompts:
            if self._empty:
                more = "~" if self.ascii else "…"
                lines = [cut(shown_text(line, self.ascii), width - EDGE, more) for line in self._empty.splitlines()]
                self.body.add_option(Option(Content("\n".join(" " * EDGE + line for line in lines)), disabled=True))
            return
        self.body.add_options([Option(prompt) for prompt in prompts])
        ids = [row.id for row in self.rows]
        self.body.highlighted = ids.index(kept) if kept in ids else min(index or 0, len(ids) - 1)

    def _widths(self, width: int) -> list[int]:
        """Of each column; 0 for one that is not shown."""
        widths = [column.width if width >= column.least else 0 for column in self.columns]
        used = EDGE + sum(widths) + GAP * sum(w > 0 for w in widths)
        for index, column in enumerate(self.columns):
            if widths[index] and (more := min(column.most - column.width, (width - used) // 3)) > 0:
                widths[index] += more
                used += more
        for index, column in enumerate(self.columns):
            if column.grow and widths[index]:
                widths[index] = max(widths[index] + width - used, 4)
                break
        return widths

    def _line(self, cells: Sequence[str], widths: Sequence[int], note: str = "") -> str:
        parts, more = [], "~" if self.ascii else "…"
        for index, (text, column, width) in enumerate(zip(cells, self.columns, widths, strict=False)):
            if width:
                if index == len(cells) - 1:
                    width += sum(GAP + other for other in widths[len(cells) :] if other)
                clean = _cut(shown(text, self.ascii), column, width, more)
                if column.grow and note and (room := width - cell_len(clean) - GAP) >= LEAST_NOTE:
                    clean += " " * GAP + cut(shown(note, self.ascii), room, more)
                parts.append(clean.rjust(width) if column.right else fit(clean, width))
        return (" " * GAP).join(parts)

    def _prompt(self, row: Row, widths: Sequence[int], width: int) -> Content:
        line = Content.assemble(
            (f"{row.mark:<{EDGE}}", "bold"), (self._line(row.cells, widths, row.note), "bold" if row.strong else "")
        )
        more = "~" if self.ascii else "…"
        for text in row.below:
            clean = shown_text(text, self.ascii)
            clean = clean if len(clean) < width - EDGE * 2 else clean[: width - EDGE * 2 - 1].rstrip() + more
            line = Content.assemble(line, "\n", (" " * EDGE * 2 + clean, "dim"))
        return line

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        if event.option_index < len(self.rows):
            self.post_message(self.Chosen(self, self.rows[event.option_index].id))

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if event.option_index < len(self.rows):
            self.post_message(self.Pointed(self, self.rows[event.option_index].id))


class FilterTable(Vertical):
    """A table with a filter above it. The filter keeps the focus: what is typed filters, the arrows move, Enter chooses."""

    DEFAULT_CSS = """
    FilterTable { height: 1fr; }
    FilterTable > .filter { height: 1; }
    FilterTable > Table > OptionList.-active > .option-list--option-highlighted {
        color: $block-cursor-foreground; background: $block-cursor-background; text-style: $block-cursor-text-style;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move('cursor_up')", show=False),
        Binding("down", "move('cursor_down')", show=False),
        Binding("pageup", "move('page_up')", show=False),
        Binding("pagedown", "move('page_down')", show=False),
    ]

    def __init__(self, columns: Sequence[Column], *, hint: str, ascii: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.table = Table(columns, ascii=ascii, focusable=False)
        self.filter = CleanInput(placeholder=hint, compact=True, classes="filter field")
        self._rows: list[Row] = []
        self._more: list[Row] = []
        self._typed: Callable[[str], Row | None] = lambda text: None
        self._empty = ""

    def compose(self) -> ComposeResult:
        yield self.filter
        yield self.table

    def show(
        self,
        rows: Sequence[Row],
        empty: str = "nothing fits the filter; shorten it",
        more: Sequence[Row] = (),
        typed: Callable[[str], Row | None] = lambda text: None,
    ) -> None:
        """Replaces the rows, of which those are shown that have every word of the filter. `more` are looked at only where
        something is typed; `typed` may make a row of the whole filter, where no other has it.
        """
        self._rows, self._empty, self._more, self._typed = list(rows), empty, list(more), typed
        self._apply()

    @property
    def _words(self) -> list[str]:
        return self.filter.value.lower().split()

    def _apply(self) -> None:
        words = self._words
        rows = [*self._rows, *self._more] if words else self._rows
        fitting = [row for row in rows if has_words(row, words)]
        made = self._typed(self.filter.value.strip()) if words else None
        if made is not None and all(row.id != made.id for row in fitting):
            fitting.append(made)
        self.table.show(fitting, self._empty)

    def _point_at_best(self) -> None:
        """Moves the cursor to the first row that has all that is typed as whole words, else to the first of all."""
        words, rows = self._words, self.table.rows
        if words and rows:
            best = next((row for row in rows if all(word in _said(row).split() for word in words)), rows[0])
            self.table.point(best.id)

    def on_descendant_focus(self) -> None:
        self.table.body.add_class("-active")

    def on_descendant_blur(self) -> None:
        self.table.body.remove_class("-active")

    @on(Input.Changed)
    def _filtered(self, event: Input.Changed) -> None:
        event.stop()
        self._apply()
        self._point_at_best()

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.table.body.action_select()

    def action_move(self, how: str) -> None:
        """Moves the cursor of the table while the filter has the focus."""
        getattr(self.table.body, f"action_{how}")()


def has_words(row: Row, words: Iterable[str]) -> bool:
    """Whether a row has every one, in lower case, anywhere in it."""
    return all(word in _said(row) for word in words)


def _said(row: Row) -> str:
    """What a filter looks in."""
    return " ".join((*row.cells, row.note)).lower()


def _cut(text: str, column: Column, width: int, more: str) -> str:
    if column.prose and len(text) > width:
        return fit(text, width - 1).rstrip() + more
    return cut(text, width, more)


def shown_text(text: str, ascii: bool) -> str:
    """Text of any length, harmless, on one line."""
    return escaped(plain(" ".join(text.split())), ascii)
