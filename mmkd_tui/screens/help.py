"""The help screen: the keys of the screen below, from the one table, and what the dashboard's signs mean."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.geometry import Size

from mmkd_tui.keys import Key, key_name, keys_of
from mmkd_tui.screens.base import MmkdScreen
from mmkd_tui.widgets.glyphs import Glyphs, glyphs
from mmkd_tui.widgets.lines import Line, LinesWidget, Span, fit

NOTES = (
    "A key that does not apply now is left out of the footer and the palette.",
    "Copying works over SSH by OSC 52. tmux needs: set -g set-clipboard on. Terminal.app has no OSC 52.",
    "To select text with the mouse, hold Shift (Option on a Mac), or start with --no-mouse.",
    "A terminal that is left in disorder: stty sane; reset",
)
HEADING, KEY = "help--heading", "help--key"
LEAST_TEXT = 20  # cells for the meanings, however long the keys' names are


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


def page(where: str, ascii: bool, width: int) -> list[Line]:
    """All of it, in lines of at most `width` cells."""
    taken = {name for key in keys_of(where) for name in key.keys.split(",")}
    here, everywhere = _pairs(keys_of(where)), _pairs(keys_of("app"), taken)
    meanings = signs(glyphs(ascii)) if where == "dashboard" else ()
    lines: list[Line] = []
    for title, pairs in (("Here", here), ("Everywhere", everywhere), ("Signs", meanings)):
        if pairs:
            lines += [(Span(title, HEADING),), *_table(pairs, width), ()]
    for note in NOTES:
        lines += [(Span(piece),) for piece in textwrap.wrap(note, max(width, LEAST_TEXT))]
    return lines


def _pairs(keys: Iterable[Key], taken: Collection[str] = ()) -> tuple[tuple[str, str], ...]:
    """The keys' names and meanings, without the names that mean something else on the screen."""
    named = ((", ".join(key_name(name) for name in key.keys.split(",") if name not in taken), key.description) for key in keys)
    return tuple(pair for pair in named if pair[0])


def _table(pairs: Sequence[tuple[str, str]], width: int) -> Iterator[Line]:
    names = max(cell_len(name) for name, _ in pairs) + 2
    for name, meaning in pairs:
        for index, piece in enumerate(textwrap.wrap(meaning, max(width - names, LEAST_TEXT))):
            yield (Span(fit(name if index == 0 else "", names), KEY), Span(piece))


class HelpPage(LinesWidget):
    """As high as its text is at its width."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {HEADING, KEY}

    DEFAULT_CSS = """
    HelpPage {
        height: auto;
        padding: 0 1;
        & > .help--heading { text-style: bold underline; }
        & > .help--key { text-style: bold; }
    }
    """

    def __init__(self, where: str, *, ascii: bool) -> None:
        super().__init__(ascii=ascii)
        self._where = where

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(page(self._where, self.ascii, width))

    def draw(self, width: int, height: int) -> list[Line]:
        return page(self._where, self.ascii, width)


class HelpScreen(MmkdScreen):
    """Closed by Esc, q or ?. It covers everything, so that nothing below it has to be drawn."""

    WHERE = "help"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1,enter", "dismiss", "Close", priority=True),
        Binding("ctrl+q,ctrl+c", "app.quit", show=False),
    ]

    def __init__(self, where: str, ascii: bool) -> None:
        super().__init__()
        self._where, self._ascii = where, ascii

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="page") as box:
            box.border_title = "Help"
            box.border_subtitle = "esc closes"
            yield HelpPage(self._where, ascii=self._ascii)
