"""The choice of another run whose curves are drawn beside this one's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from engine.run_client import RunSummary
from engine.text import plain
from mmkd_tui.progress import percent

NOBODY = "nobody"


def line(run: RunSummary) -> Text:
    """A run in one line; its name is untrusted."""
    started = time.strftime("%Y-%m-%d %H:%M  ", time.localtime(run.started)) if run.started is not None else ""
    accuracy = f"  {percent(run.student_accuracy)}" if run.student_accuracy is not None else ""
    return Text.assemble(
        (started, "dim"), (plain(run.name, 40), "bold"), f"  {plain(run.method, 20)}  {run.state.value}", accuracy
    )


class CompareScreen(ModalScreen[Path | str | None]):
    """Dismissed with a run's folder, with NOBODY to end a comparison, or with None to leave things as they are."""

    WHERE = "compare"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,c,q", "dismiss(None)", "Close"),
        Binding("ctrl+q,ctrl+c", "app.quit", show=False),
    ]

    def __init__(self, runs: Sequence[RunSummary], comparing: bool) -> None:
        super().__init__()
        self._runs = runs
        self._comparing = comparing

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog tall") as box:
            box.border_title = "Compare with"
            box.border_subtitle = "enter chooses, esc closes"
            if not self._runs:
                yield Static("There is no other run here yet.", markup=False)
                return
            options = [Option(line(run), id=str(index)) for index, run in enumerate(self._runs)]
            yield OptionList(*([Option(Text("no other run"), id=NOBODY)] if self._comparing else []), *options)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        id = event.option.id or NOBODY
        self.dismiss(NOBODY if id == NOBODY else self._runs[int(id)].path)
