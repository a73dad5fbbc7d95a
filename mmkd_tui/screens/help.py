"""The help screen: the keys of the screen below, from the one table, and what the dashboard's signs mean."""

from __future__ import annotations

from typing import ClassVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from mmkd_tui.keys import Key, key_name, keys_of
from mmkd_tui.widgets.glyphs import Glyphs, glyphs

NOTES = (
    "A key that does not apply now is left out of the footer and the palette.",
    "Copying works over SSH by OSC 52. tmux needs: set -g set-clipboard on. Terminal.app has no OSC 52.",
    "To select text with the mouse, hold Shift (Option on a Mac), or start with --no-mouse.",
    "A terminal that is left in disorder: stty sane; reset",
)


def signs(g: Glyphs) -> tuple[tuple[str, str], ...]:
    """The signs of the widgets, and what they say."""
    return (
        (g.markers[:4], "the lines of a chart, as in its legend"),
        (g.reference * 3, "an accuracy to beat: a teacher's, or the student's without teachers"),
        (g.alarm, "a value that is not a number"),
        (f"{g.fills[-1] * 2}{g.shade}{g.whisker}{g.whisker_end}", "a teacher's mean weight, and its spread over the samples"),
        (f"{g.equal_head} {g.equal}", "where all teachers would weigh the same"),
        (g.ramp.strip(), "a weight: from little to twice the equal weight"),
        (g.largest, "the teacher that is trusted most on a class"),
    )


def _table(keys: list[Key]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for key in keys:
        names = ", ".join(key_name(name) for name in key.keys.split(","))
        table.add_row(Text(names, "bold"), Text(key.description))
    return table


def page(where: str, ascii: bool) -> RenderableType:
    """All of it."""
    legend = Table.grid(padding=(0, 2, 0, 0))
    for sign, meaning in signs(glyphs(ascii)):
        legend.add_row(Text(sign, "bold"), Text(meaning))
    parts: list[RenderableType] = []
    if here := list(keys_of(where)):
        parts += [Text("Here", "bold underline"), _table(here), Text()]
    parts += [Text("Everywhere", "bold underline"), _table(list(keys_of("app"))), Text()]
    if where == "dashboard":
        parts += [Text("Signs", "bold underline"), legend, Text()]
    return Group(*parts, *(Text(note) for note in NOTES))


class HelpScreen(ModalScreen[None]):
    """Closed by Esc, q or ?."""

    WHERE = "help"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,enter", "dismiss", "Close", priority=True),
        Binding("ctrl+q,ctrl+c", "app.quit", show=False),
    ]

    def __init__(self, where: str, ascii: bool) -> None:
        super().__init__(classes="-ascii" if ascii else "")
        self._where, self._ascii = where, ascii

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog tall") as box:
            box.border_title = "Help"
            box.border_subtitle = "esc closes"
            yield Static(page(self._where, self._ascii), markup=False)
