"""The choice of another run whose curves are drawn beside this one's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from engine.run_list import RunSummary, list_runs
from engine.sweeps.members import Member, list_members
from mmkd_tui.figures import moment, percent
from mmkd_tui.widgets.marks import Marks, marks
from mmkd_tui.widgets.table import Column, FilterTable, Row, Table

NOBODY = "nobody"
COLUMNS = (
    Column("started", 11),
    Column("name", 10, grow=True),
    Column("method", 6, least=60),
    Column("state", 14, least=76),  # the mark says it, too
    Column("test", 8, right=True),
)
BEST = 5  # runs of a sweep or table that are listed before anything is typed


def row(run: RunSummary, marks: Marks, name: str = "") -> Row:
    """A run in one line: runs of one name differ in when they began, or in their method. `name`: by default the preset's."""
    method = "none" if run.only_teachers else run.method
    cells = (moment(run.started, short=True), name or run.name, method, run.state.value, percent(run.student_accuracy))
    return Row(str(run.path), cells, mark=marks.states[run.state])


class CompareScreen(ModalScreen[Path | str | None]):
    """Dismissed with a run's folder, with NOBODY to end a comparison, or with None to leave things as they are.

    The runs of sweeps and tables, which may be hundreds, come after the others: the best few of each, the rest where it fits
    what is typed.
    """

    WHERE = "compare"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Close"),
        Binding("ctrl+q,ctrl+c", "app.quit", show=False, priority=True),  # the filter has the focus, and a use for them
    ]

    def __init__(self, runs_dir: Path, here: Path, comparing: bool, *, ascii: bool = False) -> None:
        """`here`: the folder of the run in hand, which is not offered."""
        super().__init__()
        self._runs_dir, self._here = runs_dir, here.absolute()
        self._marks = marks(ascii)
        self._rows = [Row(NOBODY, ("", "no other run", "", "", ""))] if comparing else []
        self.table = FilterTable(COLUMNS, hint="looking for runs ...", ascii=ascii)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog tall") as box:
            box.border_title = "Compare with"
            box.border_subtitle = "enter chooses, esc closes"
            yield self.table

    def on_mount(self) -> None:
        self.table.show(self._rows, "looking ...")
        self._look()

    @work(exit_on_error=False)
    async def _look(self) -> None:
        """Adds the runs, then those of sweeps and tables; on a thread, as they may be many."""
        alone = await asyncio.to_thread(list_runs, self._runs_dir)
        self._rows += [row(run, self._marks) for run in alone if run.path.absolute() != self._here]
        if self._rows:
            self.table.show(self._rows, "looking ...")
        groups = await asyncio.to_thread(list_members, self._runs_dir, self._here.parent)
        others = [[one for one in members if one.run.path.absolute() != self._here] for members in groups]
        few = [self._row(one) for members in others for one in members[:BEST]]
        more = [self._row(one) for members in others for one in members[BEST:]]
        nothing = not (self._rows or few)
        self.table.show(
            [*self._rows, *few],
            "There is no other run here yet." if nothing else "nothing fits the filter; shorten it",
            more,
        )
        finds = f"; that finds {len(more)} more runs of sweeps and tables, too" if more else ""
        self.table.filter.placeholder = f"type to filter{finds}"

    def _row(self, member: Member) -> Row:
        return row(member.run, self._marks, f"{member.group}/{member.label}")

    @on(Table.Chosen)
    def _chosen(self, event: Table.Chosen) -> None:
        event.stop()
        self.dismiss(NOBODY if event.row == NOBODY else Path(event.row))
