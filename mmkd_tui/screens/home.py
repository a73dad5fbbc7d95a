"""The first screen: presets to start and runs to come back to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from engine import paths
from engine.errors import UserError
from engine.preset import Preset
from engine.run_list import RunSummary, list_runs, remove_run
from engine.sweeps.manifest import is_worked_on
from engine.sweeps.overview import Overview, look_at_sweeps
from engine.text import plain
from mmkd_tui.draft import Draft
from mmkd_tui.keys import bindings
from mmkd_tui.screens.ask import Answer, Ask
from mmkd_tui.screens.base import MmkdScreen
from mmkd_tui.screens.home_lines import (
    NARROW,
    NARROW_RUN_COLUMNS,
    PRESET_COLUMNS,
    RUN_COLUMNS,
    Offered,
    machine_line,
    offered,
    preset_row,
    run_row,
)
from mmkd_tui.screens.start import start_run
from mmkd_tui.screens.sweep_lines import home_row
from mmkd_tui.starting import hindrance
from mmkd_tui.stock import Stock
from mmkd_tui.widgets.key_bar import KeyBar
from mmkd_tui.widgets.marks import marks
from mmkd_tui.widgets.table import CleanInput, Row, Table, has_words, shown_text

LOOK = 1.0  # seconds between two looks at the runs
FEW = 8  # presets that are all told about at length


class HomeScreen(MmkdScreen):
    """Presets above, runs below."""

    WHERE = "home"
    CSS_PATH = "home.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("home")]
    AUTO_FOCUS = "#presets OptionList"

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path.cwd()  # where the user's own presets are looked for
        self._offered: list[Offered] = []
        self._preset_rows: list[Row] = []
        self._runs: list[RunSummary] = []
        self._sweeps: dict[Path, Overview] = {}  # the newest first
        self._worked_on: set[Path] = set()  # those of them that a command works on
        self._stock = Stock()
        self._looking = self._looked = self._starting = False

    @property
    def data_root(self) -> Path:
        return self.mmkd.data_root or paths.data_root()

    def compose(self) -> ComposeResult:
        self.presets = Table(PRESET_COLUMNS, ascii=self.mmkd.ascii)
        self.runs = Table(RUN_COLUMNS, ascii=self.mmkd.ascii)
        self.filter = CleanInput(placeholder="name, method, state or seed; esc shows all", compact=True, classes="filter field")
        with Horizontal(classes="head"):
            yield Static("mmkd", classes="title", markup=False)
            yield Static(shown_text(machine_line(self.mmkd.machine), self.mmkd.ascii), classes="machine", markup=False)
        yield Static("Several teachers, one small student: what shall run?", classes="subtitle", markup=False)
        with Vertical(id="presets", classes="panel") as panel:
            panel.border_title, panel.border_subtitle = "Presets", "Enter starts"
            yield self.presets
        with Vertical(id="runs", classes="panel") as panel:
            elsewhere = self.mmkd.runs_dir.absolute() != Path("runs").absolute()
            where = f" in {shown_text(str(self.mmkd.runs_dir), self.mmkd.ascii)}" if elsewhere else ""
            panel.border_title, panel.border_subtitle = Content(f"Runs{where}"), "Enter opens"
            yield self.filter
            yield self.runs
        yield KeyBar(ascii=self.mmkd.ascii)

    def on_mount(self) -> None:
        self._offered = offered(self._folder, self.data_root)
        self._show_presets()
        self._show_runs()
        self._look()
        self._read_store()
        self.set_interval(LOOK, self._look)

    def on_screen_resume(self) -> None:
        if self._offered:
            self._offered = offered(self._folder, self.data_root)
            self._show_presets()
            self._read_store()
            self._look()

    def on_resize(self) -> None:
        self._show_runs()

    # -- what there is

    @work(exclusive=True, exit_on_error=False, group="store")
    async def _read_store(self) -> None:
        self._stock = await asyncio.to_thread(Stock.read, paths.teacher_store())
        self._show_presets()

    def _show_presets(self) -> None:
        machine, glyphs = self.mmkd.machine, marks(self.mmkd.ascii)
        self._preset_rows = [preset_row(item, self._stock, machine, self.data_root, glyphs) for item in self._offered]
        self._draw_presets()

    def _draw_presets(self) -> None:
        """Of many presets, only the one at the cursor is told about at length: the others stay in sight then."""
        rows = self._preset_rows
        if len(rows) > FEW:
            here = self.presets.current or rows[0].id
            rows = [row if row.id == here else replace(row, below=()) for row in rows]
        self.presets.show(rows, "no presets are installed; press n to plan an experiment")

    @work(exit_on_error=False, group="runs")
    async def _look(self) -> None:
        """Reads the runs, unless that is being done or nobody sees it."""
        if self._looking or not self.is_current:
            return
        self._looking = True
        try:
            self._runs = await asyncio.to_thread(list_runs, self.mmkd.runs_dir)
            self._sweeps = await asyncio.to_thread(look_at_sweeps, self.mmkd.runs_dir, self._sweeps)
            self._worked_on = await asyncio.to_thread(lambda: {path for path in self._sweeps if is_worked_on(path)})
        except OSError:
            self._runs = []
        finally:
            self._looking = False
        self._looked = True
        self._show_runs()

    def _show_runs(self) -> None:
        now, glyphs, narrow = self.mmkd.now(), marks(self.mmkd.ascii), self.size.width < NARROW
        empty = (
            "looking ..."
            if not self._looked
            else f"no runs in {plain(str(self.mmkd.runs_dir))} yet\nEnter on a preset above starts one, n plans one of your own"
        )
        sweeps = [
            home_row(path, overview, glyphs, now, path in self._worked_on, narrow) for path, overview in self._sweeps.items()
        ]
        self.runs.columns = NARROW_RUN_COLUMNS if narrow else RUN_COLUMNS
        rows = [*sweeps, *(run_row(run, glyphs, now, narrow) for run in self._runs)]
        if words := self.filter.value.lower().split():
            rows, empty = [row for row in rows if has_words(row, words)], "no run has these words; esc shows all"
        self.runs.show(rows, empty)
        self.refresh_bindings()

    # -- what can be done

    @property
    def chosen_preset(self) -> Offered | None:
        """At the cursor, while the presets have the focus."""
        return self._preset_of(self.presets.current) if self.presets.body.has_focus else None

    def _preset_of(self, row: str | None) -> Offered | None:
        """None for a row whose file is gone: it is shown until all rows are drawn anew."""
        return next((item for item in self._offered if str(item.entry.path) == row), None)

    @property
    def chosen_run(self) -> RunSummary | None:
        """At the cursor, while the runs have the focus."""
        row = self.runs.current if self.runs.body.has_focus else None
        return next((run for run in self._runs if str(run.path) == row), None)

    def action_find(self) -> None:
        """Asks for the words that runs are to have."""
        self.query_one("#runs").add_class("-finding")
        self.filter.focus()

    def action_show_all(self) -> None:
        """Ends what `action_find` began."""
        self.query_one("#runs").remove_class("-finding")
        self.filter.value = ""
        self.runs.body.focus()

    def key_down(self) -> None:
        """From the filter to the runs, which it stays in force for."""
        if self.filter.has_focus:
            self.runs.body.focus()

    @on(Input.Changed)
    def _filtered(self) -> None:
        self._show_runs()

    @on(Input.Submitted)
    def _found(self) -> None:
        self.runs.body.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None where a key does nothing now, so that the footer does not offer it."""
        if action == "edit":
            return True if self.chosen_preset and self.chosen_preset.entry.preset else None
        if action == "find":
            return None if self.filter.has_focus else True
        if action == "show_all":
            return True if self.query_one("#runs").has_class("-finding") else None
        if action == "delete":
            return True if self.chosen_run and not self.chosen_run.state.live else None
        return True

    def on_descendant_focus(self) -> None:
        self.refresh_bindings()

    @on(Table.Pointed)
    def _pointed(self, event: Table.Pointed) -> None:
        if event.table is self.presets and len(self._preset_rows) > FEW:
            self._draw_presets()
        self.refresh_bindings()

    @on(Table.Chosen)
    def _chosen(self, event: Table.Chosen) -> None:
        event.stop()
        if event.table is self.presets:
            if item := self._preset_of(event.row):
                self._start(item)
        elif Path(event.row) in self._sweeps:
            self.mmkd.open_sweep(Path(event.row))
        else:
            self.mmkd.open_run(Path(event.row))

    def _start(self, item: Offered) -> None:
        entry = item.entry
        if entry.preset is None:
            self.app.push_screen(Ask(f"{entry.path.name} cannot be read", "\n".join(entry.mistakes), [Answer("close", "Close")]))
            return
        preset = entry.preset.anchored(entry.path.parent)
        stop = hindrance(preset, self.data_root)
        if stop:
            self._complain("It cannot run here yet", stop)
        elif not self._starting:
            self._starting = True
            self._spawn(preset)

    @work(exit_on_error=False, group="start")
    async def _spawn(self, preset: Preset) -> None:
        try:
            path = await start_run(self.app, preset, self.mmkd.runs_dir, self.mmkd.data_root)
        finally:
            self._starting = False
        if path is not None:
            self.mmkd.open_run(path)

    def action_new(self) -> None:
        """The wizard, with defaults."""
        self.mmkd.open_wizard(Draft.new(), stock=self._stock)

    def action_edit(self) -> None:
        """The wizard, filled from the chosen preset."""
        item = self.chosen_preset
        if item is None or item.entry.preset is None:
            return
        draft = Draft.of(item.entry.preset, item.entry.path.parent)
        suggested = item.entry.path if item.own else None
        self.mmkd.open_wizard(draft, stock=self._stock, title=f"From {item.entry.name}", suggested=suggested)

    def action_delete(self) -> None:
        """Deletes the chosen run; asks first."""
        run = self.chosen_run
        if run is None or run.state.live:
            return
        answers = [Answer("keep", "Keep it"), Answer("delete", "Delete it")]
        body = f"{run.path}\nIts student, checkpoints and curves are gone then; its teachers stay in the store."

        def answered(answer: str | None) -> None:
            if answer == "delete":
                self._delete(run)

        self.app.push_screen(Ask("Delete this run?", body, answers), answered)

    @work(exit_on_error=False, group="delete")
    async def _delete(self, run: RunSummary) -> None:
        try:
            await asyncio.to_thread(remove_run, run.path)
        except (UserError, OSError) as error:
            self._complain("Not deleted", str(error))
        self._look()

    def _complain(self, title: str, message: str) -> None:
        self.notify(plain(message, 600), title=title, severity="error", markup=False)
