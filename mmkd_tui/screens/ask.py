"""Questions above a screen: one of a few answers, or a line of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from engine.text import plain
from mmkd_tui.widgets.table import CleanInput

_CSS = """
Ask, AskText { align: center middle; }
Ask > Vertical, AskText > Vertical {
    width: 64; max-width: 95%; height: auto; max-height: 95%; padding: 1 2; border: round $primary; background: $surface;
}
Ask.-ascii > Vertical, AskText.-ascii > Vertical { border: ascii $primary; }
Ask .title, AskText .title { text-style: bold; margin-bottom: 1; }
Ask .body, AskText .body { margin-bottom: 1; }
Ask Horizontal, AskText Horizontal { height: 1; align-horizontal: right; }
AskText .problem { color: $text-error; text-style: bold; height: auto; }
AskText CleanInput {
    width: 1fr; height: 1; padding: 0 1; border-left: vkey $border !important; border-right: vkey $border !important;
    border-top: none !important; border-bottom: none !important; margin-bottom: 1;
}
AskText.-ascii CleanInput { border-left: ascii $border !important; border-right: ascii $border !important; }
"""


class Ask(ModalScreen[str | None]):
    """One of a few answers, the first of which is the careful one and has the focus; Escape gives None."""

    CSS = _CSS
    AUTO_FOCUS = "Button"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("left,up", "app.focus_previous", show=False),
        Binding("right,down", "app.focus_next", show=False),
    ]

    def __init__(self, title: str, body: str, answers: Sequence[tuple[str, str]], *, ascii: bool = False) -> None:
        """`answers`: what is returned, and its button's words."""
        super().__init__(classes="-ascii" if ascii else "")
        self._title, self._body, self._answers = title, body, answers

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(plain(self._title), classes="title", markup=False)
            yield Static(plain(self._body, keep="\n"), classes="body", markup=False)
            with Horizontal():
                for value, words in self._answers:
                    yield Button(f" {words} ", name=value, compact=True)

    @on(Button.Pressed)
    def _answered(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.name)


class AskText(ModalScreen[str | None]):
    """A line of text. `accept` says what is wrong with it, "" where all is well; Escape gives None."""

    CSS = _CSS
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel")]

    def __init__(self, title: str, body: str, text: str, accept: Callable[[str], str], *, ascii: bool = False) -> None:
        super().__init__(classes="-ascii" if ascii else "")
        self._title, self._body, self._text, self._accept = title, body, text, accept

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(plain(self._title), classes="title", markup=False)
            yield Static(plain(self._body, keep="\n"), classes="body", markup=False)
            yield CleanInput(self._text, compact=True, select_on_focus=False)
            yield Static("", classes="problem", markup=False)
            with Horizontal():
                yield Button(" OK ", name="ok", compact=True)
                yield Button(" Cancel ", name="cancel", compact=True)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        if event.button.name == "ok":
            self._try()
        else:
            self.dismiss(None)

    @on(Input.Submitted)
    def _try(self) -> None:
        text = self.query_one(CleanInput).value
        problem = self._accept(text)
        if problem:
            self.query_one(".problem", Static).update(plain(problem))
        else:
            self.dismiss(text)

    @on(Input.Changed)
    def _changed(self) -> None:
        self.query_one(".problem", Static).update("")
