"""The choice of another run whose curves are drawn beside this one's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from engine.run_client import RunSummary
from mmkd_tui.progress import percent
from mmkd_tui.screens.marks import Marks, marks
from mmkd_tui.widgets.table import Column, Row, Table

NOBODY = "nobody"
COLUMNS = (
    Column("started", 16),
    Column("name", 10, grow=True),
    Column("method", 10),
    Column("state", 14, least=76),  # the mark says it, too
    Column("test", 8, right=True),
)


def row(run: RunSummary, marks: Marks) -> Row:
    """A run in one line: runs of one name differ in when they began, or in their method."""
    started = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started)) if run.started is not None else ""
    cells = (started, run.name, run.method, run.state.value, percent(run.student_accuracy))
    return Row(str(run.path), cells, mark=marks.states[run.state])


class CompareScreen(ModalScreen[Path | str | None]):
    """Dismissed with a run's folder, with NOBODY to end a comparison, or with None to leave things as they are."""

    WHERE = "compare"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,c,q", "dismiss(None)", "Close"),
        Binding("ctrl+q,ctrl+c", "app.quit", show=False),
    ]

    def __init__(self, runs: Sequence[RunSummary], comparing: bool, *, ascii: bool = False) -> None:
        super().__init__()
        self._runs = runs
        self._comparing = comparing
        self._ascii = ascii

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog tall") as box:
            box.border_title = "Compare with"
            box.border_subtitle = "enter chooses, esc closes" if self._runs else "esc closes"
            if not self._runs:
                yield Static("There is no other run here yet.", markup=False)
                return
            table = Table(COLUMNS, ascii=self._ascii)
            nobody = [Row(NOBODY, ("", "no other run", "", "", ""))] if self._comparing else []
            table.show([*nobody, *(row(run, marks(self._ascii)) for run in self._runs)])
            yield table

    @on(Table.Chosen)
    def _chosen(self, event: Table.Chosen) -> None:
        event.stop()
        self.dismiss(NOBODY if event.row == NOBODY else next(run.path for run in self._runs if str(run.path) == event.row))
