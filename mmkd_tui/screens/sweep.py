"""A sweep, live: how many runs wait, work and are done, which is the best so far, and each run to be opened."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from engine.sweeps.manifest import Manifest, is_worked_on, read_manifest
from engine.sweeps.overview import Overview
from mmkd_tui.keys import bindings
from mmkd_tui.screens.base import MmkdScreen
from mmkd_tui.screens.sweep_lines import COLUMNS, ORDERS, about, bar, best_line, counted, kind_of, rows_of
from mmkd_tui.widgets.key_bar import KeyBar
from mmkd_tui.widgets.marks import marks
from mmkd_tui.widgets.table import Table, shown_text

LOOK = 1.0  # seconds between two looks at the runs


class SweepScreen(MmkdScreen):
    """The sweep above, its runs below."""

    WHERE = "sweep"
    CSS_PATH = "sweep.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("sweep")]
    AUTO_FOCUS = "#runs OptionList"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._order = 0
        self._looking = False
        self._overview = Overview(read_manifest(path) or Manifest(path, path.name, "", None, ()))
        self._worked_on: bool | None = None

    def compose(self) -> ComposeResult:
        ascii, manifest = self.mmkd.ascii, self._overview.manifest
        self.work_line = Static("", classes="work", markup=False)
        self.bar = Static("", classes="bar", markup=False)
        self.counts = Static("looking ...", classes="line", markup=False)
        self.best = Static("", classes="line", markup=False)
        self.runs = Table(COLUMNS, ascii=ascii)
        with Horizontal(classes="head"):
            yield Static(shown_text(manifest.name, ascii), classes="title", markup=False)
            yield self.work_line
        if line := about(manifest):
            yield Static(shown_text(line, ascii), classes="about", markup=False)
        with Vertical(id="summary") as panel:
            panel.border_title = kind_of(self.path).title()
            yield self.bar
            yield self.counts
            yield self.best
        with Vertical(id="runs") as panel:
            panel.border_title, panel.border_subtitle = Content("Runs"), "Enter opens"
            self.panel = panel
            yield self.runs
        yield KeyBar(ascii=ascii)

    def on_mount(self) -> None:
        self._look()
        self.set_interval(LOOK, self._look)

    def on_screen_resume(self) -> None:
        self._look()

    def on_resize(self) -> None:
        self._draw()

    @work(exit_on_error=False, group="runs")
    async def _look(self) -> None:
        """Reads the runs, unless that is being done or nobody sees it."""
        if self._looking or not self.is_current:
            return
        self._looking = True
        try:
            await asyncio.to_thread(self._read)
        except OSError:
            pass  # a folder that went away: what was seen last stays
        finally:
            self._looking = False
        self._draw()

    def _read(self) -> None:
        manifest = read_manifest(self.path)
        if manifest is not None and manifest != self._overview.manifest:  # the file was changed and begun anew
            self._overview = Overview(manifest)
        self._overview.look()
        self._worked_on = is_worked_on(self.path)

    def _draw(self) -> None:
        if self._worked_on is None:
            return
        ascii, overview = self.mmkd.ascii, self._overview
        glyphs, counts = marks(ascii), overview.counts
        waiting = counts["queue"] + counts["stopped"] + counts["failed"]
        idle = f"no command works on it; mmkd {kind_of(self.path)} FILE goes on" if waiting else "all is done"
        self.work_line.update("a command works on it" if self._worked_on else idle)
        self.bar.update(bar(counts, max(self.bar.size.width, 1), ascii))
        self.counts.update(shown_text(counted(overview.rows, glyphs), ascii) or "no runs")
        self.best.update(shown_text(best_line(overview.best), ascii))
        self.panel.border_title = Content(f"Runs, {ORDERS[self._order]}")
        self.runs.show(rows_of(overview, ORDERS[self._order], glyphs), f"this {kind_of(self.path)} has no runs")
        self.refresh_bindings()

    @on(Table.Chosen)
    def _chosen(self, event: Table.Chosen) -> None:
        event.stop()
        row = next((row for row in self._overview.rows if row.folder == event.row), None)
        if row is not None and row.group == "queue":
            self.notify("It waits for its turn; there is nothing to see of it yet.", title="Not begun", markup=False)
        elif row is not None:
            self.mmkd.open_run(self.path / row.folder)

    def action_order(self) -> None:
        """The next order of the runs."""
        self._order = (self._order + 1) % len(ORDERS)
        self._draw()

    def action_home(self) -> None:
        """Back to the presets and runs."""
        self.mmkd.go_home()
