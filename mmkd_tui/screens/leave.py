"""Questions before something that cannot be taken back: leaving a live run, stopping it."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static


class Leave(StrEnum):
    """How to leave a live run."""

    DETACH = "detach"
    STOP = "stop"
    CANCEL = "cancel"


class LeaveScreen(ModalScreen[Leave]):
    """Detach is the default: Enter, or asking to leave once more, never costs a run anything."""

    WHERE = "leave"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d,q,ctrl+q,ctrl+c", "answer('detach')", "Detach", priority=True),
        Binding("s", "answer('stop')", "Stop and save"),
        Binding("escape,c", "answer('cancel')", "Cancel"),
        Binding("left,up", "app.focus_previous", show=False),
        Binding("right,down", "app.focus_next", show=False),
    ]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static("The run is live. Leave it?", classes="dialog-title", markup=False)
            yield Static("Detached, it goes on without this window; the terminal then says how to come back.", markup=False)
            with Horizontal(classes="dialog-buttons"):
                yield Button(" Detach (d) ", id="detach", compact=True)
                yield Button(" Stop and save (s) ", id="stop", compact=True)
                yield Button(" Cancel (esc) ", id="cancel", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(Leave(event.button.id or Leave.CANCEL))

    def action_answer(self, answer: str) -> None:
        self.dismiss(Leave(answer))


class StopScreen(ModalScreen[bool]):
    """Whether to stop the run; no is the default."""

    WHERE = "leave"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,s", "answer(True)", "Stop"),
        Binding("n,escape", "answer(False)", "Go on"),
        Binding("left,up", "app.focus_previous", show=False),
        Binding("right,down", "app.focus_next", show=False),
    ]

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static("Stop the run?", classes="dialog-title", markup=False)
            yield Static("It ends after its step and saves a checkpoint, from which it can go on later.", markup=False)
            with Horizontal(classes="dialog-buttons"):
                yield Button(" Go on (n) ", id="no", compact=True)
                yield Button(" Stop and save (s) ", id="yes", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)
