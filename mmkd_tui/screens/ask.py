"""Questions above a screen: one of a few answers, or a line of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from engine.text import plain
from mmkd_tui.keys import key_name
from mmkd_tui.screens.base import app_of
from mmkd_tui.widgets.lines import escaped
from mmkd_tui.widgets.table import CleanInput

BACK = ("escape", "ctrl+q", "ctrl+c")  # out of the question, with nothing done


class Answer(NamedTuple):
    """What is returned, its button's words, and the keys that give it, the first of which the button names."""

    value: str
    words: str
    keys: tuple[str, ...] = ()

    @property
    def button(self) -> str:
        return f" {self.words} ({key_name(self.keys[0])}) " if self.keys else f" {self.words} "


class Question(ModalScreen[str | None]):
    """What questions share."""

    def harmless(self, text: str, keep: str = "") -> str:
        """As this terminal can show it; `keep`: control characters that stay."""
        return escaped(plain(text, keep=keep), app_of(self).ascii)


class Ask(Question):
    """One of a few answers, the first of which is the careful one and has the focus; Escape, ctrl+q and ctrl+c give None."""

    AUTO_FOCUS = "Button"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,up", "app.focus_previous", show=False),
        Binding("right,down", "app.focus_next", show=False),
        Binding("pageup", "scroll(-1)", show=False),
        Binding("pagedown", "scroll(1)", show=False),
    ]

    def __init__(self, title: str, body: str, answers: Sequence[Answer]) -> None:
        super().__init__()
        self._title, self._body, self._answers = title, body, answers
        self._by_key: dict[str, str | None] = dict.fromkeys(BACK)
        self._by_key |= {key: answer.value for answer in answers for key in answer.keys}

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self.harmless(self._title), classes="dialog-title", markup=False)
            with VerticalScroll(classes="dialog-body", can_focus=False):
                yield Static(self.harmless(self._body, "\n"), markup=False)
            with Horizontal(classes="dialog-buttons"):
                for answer in self._answers:
                    yield Button(answer.button, name=answer.value, compact=True)

    def on_key(self, event: events.Key) -> None:
        if event.key in self._by_key:
            event.stop()
            self.dismiss(self._by_key[event.key])

    def action_scroll(self, by: int) -> None:
        """A page of a body that is longer than its room."""
        body = self.query_one(VerticalScroll)
        body.scroll_relative(y=by * body.size.height, animate=False)

    @on(Button.Pressed)
    def _answered(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.name)


class AskText(Question):
    """A line of text. `accept` says what is wrong with it, "" where all is well; Escape, ctrl+q and ctrl+c give None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding(",".join(BACK), "dismiss(None)", "Cancel", priority=True)]

    def __init__(self, title: str, body: str, text: str, accept: Callable[[str], str]) -> None:
        super().__init__()
        self._title, self._body, self._text, self._accept = title, body, text, accept

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self.harmless(self._title), classes="dialog-title", markup=False)
            yield Static(self.harmless(self._body, "\n"), markup=False)
            yield CleanInput(self._text, compact=True, select_on_focus=False)
            yield Static("", classes="problem", markup=False)
            with Horizontal(classes="dialog-buttons"):
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
            self.query_one(".problem", Static).update(self.harmless(problem))
        else:
            self.dismiss(text)

    @on(Input.Changed)
    def _changed(self) -> None:
        self.query_one(".problem", Static).update("")
