"""The dashboard: one run, live or over, as its folder tells it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.widgets import Static

from engine.control import Command
from engine.errors import UserError
from engine.events import CheckpointSaved
from engine.gpu_lock import GpuBusyError
from engine.run_client import DirectoryClient, RunClient
from engine.run_list import settings_given
from engine.run_state import RunState, other_machine
from engine.spawning import respawn
from engine.sweeps.manifest import label_of
from engine.text import one_line, plain
from mmkd_tui.curves import PhaseCurves
from mmkd_tui.follow import Follower
from mmkd_tui.keys import bindings
from mmkd_tui.panels.charts import CHARTS, Charts
from mmkd_tui.panels.log import LogPane, untold
from mmkd_tui.panels.notice import NoticeBar, come_back, notice
from mmkd_tui.panels.result import ResultPanel
from mmkd_tui.panels.status import StatusLines
from mmkd_tui.panels.teachers import TeacherTable
from mmkd_tui.panels.weights import WeightsByClass, WeightsNow
from mmkd_tui.screens.base import MmkdScreen
from mmkd_tui.screens.compare import NOBODY, CompareScreen
from mmkd_tui.screens.questions import DETACH, START, STOP, busy_question, leave_question, lost_question, stop_question
from mmkd_tui.system import SystemMonitor
from mmkd_tui.widgets.key_bar import KeyBar
from mmkd_tui.widgets.table import shown_text

TICK = 0.25  # seconds between two looks at the run
SLICE = 0.06  # seconds of reading at a time, while a long run is read: keys are answered in between
REDRAW = 0.5  # seconds between two pictures meanwhile
CONSOLE_LINES = 30
LEAST_LOG = 5  # rows


class DashboardScreen(MmkdScreen):
    """Asks its client four times a second; nothing is pushed, so nothing can pile up."""

    WHERE = "dashboard"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("dashboard")]

    def __init__(self, client: RunClient) -> None:
        super().__init__()
        self.follower = Follower(client)
        self.other: Follower | None = None
        self._phase: int | None = None  # the training whose curves are looked at; None: the one in hand
        self._monitor: SystemMonitor | None = None
        self._system = ""
        self._pictures = 0
        self._drawn = 0.0
        self._second = -1
        self._leaving = False  # as soon as the run has stopped
        self._over: RunState | None = None
        self._checkpoint: CheckpointSaved | None = None  # the newest when another one was asked for
        self._console_due = False  # it is to be shown, below the run's own messages
        self._weighed = False  # as the footer has it
        self._by_class = False  # the weights by class are in the place of the curves

    def compose(self) -> ComposeResult:
        ascii, settings = self.mmkd.ascii, self.mmkd.settings
        path = self.follower.client.path
        yield StatusLines(label=label_of(path), changed=" ".join(settings_given(path)), ascii=ascii, id="status")
        yield NoticeBar(ascii=ascii, id="notice")
        yield ResultPanel(ascii=ascii, id="result")
        with Container(id="curves"):
            yield Charts(ascii=ascii, log_y=settings.log_y, smoothing=settings.smoothing, id="charts")
            with Container(id="side"):
                yield TeacherTable(ascii=ascii, id="teachers")
                yield WeightsNow(ascii=ascii, id="weights")
                yield LogPane(ascii=ascii, id="log")
        yield WeightsByClass(ascii=ascii, id="by-class")
        yield Static("", id="system", markup=False)
        yield KeyBar(ascii=ascii)

    def on_mount(self) -> None:
        self.query_one(TeacherTable).border_title = "teachers"
        self.query_one(LogPane).border_title = "log"
        self.query_one(LogPane).set_class(self.mmkd.settings.log, "-wanted")
        self.query_one(WeightsByClass).display = False
        self.add_class(f"-{CHARTS[0]}")
        self.set_interval(TICK, self._tick)
        self._tick()

    def on_unmount(self) -> None:
        if self._monitor is not None:
            self._monitor.stop()

    def on_resize(self) -> None:
        self.query_one(ResultPanel).fit()
        self.call_later(self.refresh_bindings)  # when the classes that say how much room there is are right
        self.call_after_refresh(self._share_rows)

    def _share_rows(self) -> None:
        """Charts keep a third of the rows that they and the weights have, and the log beside them a few."""
        rows = self.query_one("#curves").size.height
        room = rows * 2 // 3 if self.has_class("-narrow") else rows - LEAST_LOG * self.query_one(LogPane).display
        if rows:  # else the weights by class are in their place
            self.query_one(WeightsNow).fit(room)

    # -- following the run

    def _tick(self) -> None:
        news = self.follower.step(SLICE)
        if "checkpoint" in self.follower.answered:
            self._tell_checkpoint()
        if self.other is not None:
            news |= self.other.step(SLICE / 2)
        reading = self.follower.reading or (self.other is not None and self.other.reading)
        now = time.monotonic()
        if reading:
            self.set_timer(0.005, self._tick)
        due = news and (not reading or now - self._drawn >= REDRAW) and self.is_current  # below a question, once a second will do
        if due or int(now) != self._second:
            self._drawn, self._second = now, int(now)
            self._draw(all=reading or not news)

    def _draw(self, all: bool = True) -> None:
        """The charts each time; figures that nobody reads four times a second twice, or once: a slow link carries them too."""
        follower, view = self.follower, self.follower.view
        curves = self._curves()
        self._pictures += 1
        self._set_classes()
        self.query_one(NoticeBar).show(notice(follower))
        if self._console_due and not follower.reading:  # a look after the state: a run's last words come after its result
            self._show_console()
        if follower.state is not self._over:
            all = True
            self._state_changed()
        if self._weighed is not self._has_weights:
            self._weighed = self._has_weights
            self.refresh_bindings()
        if all or self._pictures % 2 == 0:
            self.query_one(StatusLines).show(follower, self.mmkd.now())
            self.query_one(LogPane).show(view)
            self._show_system()
        if self._by_class:  # what is not seen is not drawn
            if all or self._pictures % 4 == 0:
                self.query_one(WeightsByClass).show(view, curves)
            return
        self.query_one("#curves").set_class(curves is None or not curves.loss, "-empty")
        self.query_one(Charts).show(curves, view, *self._other_curves(curves))
        if all or self._pictures % 2 == 0:
            self.query_one(TeacherTable).show(view, follower.state)
            self.query_one(WeightsNow).show(view, curves, strips=all or self._pictures % 4 == 0)
            self._share_rows()

    def _curves(self) -> PhaseCurves | None:
        phases = self.follower.curves.phases
        return self.follower.curves.now if self._phase is None or self._phase >= len(phases) else phases[self._phase]

    def _other_curves(self, curves: PhaseCurves | None) -> tuple[PhaseCurves | None, str, str]:
        """Of the run that is compared: the same kind of training, the run's name and, of a distillation, its method."""
        if self.other is None or curves is None:
            return None, "", ""
        same = [phase for phase in self.other.curves.phases if phase.name == curves.name]
        started = self.other.view.started
        method = started.method if started is not None and curves.name == "distil" else ""
        return (same[-1] if same else None), one_line(self.other.client.path.name, 60), method

    def _set_classes(self) -> None:
        """What there is to show decides which parts are shown; where, the style sheet says."""
        phase, state = self.follower.view.phase, self.follower.state
        weighted = phase is not None and phase.last is not None and bool(phase.last.logit_weights)
        starting = phase is not None and phase.name == "distil" and phase.last is None
        self.set_class(not (weighted or starting), "-teaching")
        if state is not RunState.GONE:  # then what was seen last stays
            self.set_class(state is RunState.FINISHED, "-finished")
            self.set_class(state in (RunState.FAILED, RunState.CRASHED), "-broken")

    def _show_system(self) -> None:
        started = self.follower.view.started
        state = self.follower.state
        # While a process is starting, what is known of one is of the one before it.
        if started is not None and self._monitor is None and state.live and state is not RunState.STARTING:
            self._monitor = SystemMonitor(started.device, self.follower.client.process())
        text = self._monitor.latest if self._monitor is not None else ""
        if text != self._system:
            self._system = text
            self.query_one("#system", Static).update(shown_text(text, self.mmkd.ascii), layout=False)

    def _state_changed(self) -> None:
        """The run has come into another state than that of the last picture."""
        before, self._over = self._over, self.follower.state
        client, state = self.follower.client, self.follower.state
        self.refresh_bindings()
        if state is RunState.FINISHED and (result := client.result()) is not None:
            self.query_one(ResultPanel).show(result, client.path)
        self._console_due = state in (RunState.FAILED, RunState.CRASHED)
        if not state.live:
            if self._monitor is not None:
                self._monitor.stop()
                self._monitor = None
            if before is not None and before.live:
                self.mmkd.bell()
            if self._leaving:
                self.mmkd.exit(self._farewell())

    def _show_console(self) -> None:
        self._console_due = False
        log, view = self.query_one(LogPane), self.follower.view
        log.show(view)
        log.show_console(untold(self.follower.client.console_tail(), view.messages)[-CONSOLE_LINES:])

    # -- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What applies now: the rest is in neither footer nor palette."""
        state = self.follower.state
        asked = state.live and state is not RunState.STARTING
        paused = state is RunState.PAUSED or (self.follower.view.paused and state.live)
        applies = {
            "pause": asked and not paused,
            "unpause": asked and paused,
            "stop": asked,
            "checkpoint": asked,
            "respawn": isinstance(self.follower.client, DirectoryClient) and (state.resumable or bool(self._lost)),
            "next_chart": self.has_class("-narrow") and (not self._by_class or self.query_one(WeightsByClass).two_kinds),
            "earlier": len(self.follower.curves.phases) > 1,
            "later": self._phase is not None,
            "copy_error": state in (RunState.FAILED, RunState.CRASHED),
            "weights": self._has_weights,
            "log": not self._by_class and not self.has_class("-broken"),  # then it is shown anyway
        }
        return applies.get(action, True)

    def _ask(self, command: Command) -> None:
        try:
            self.follower.ask(command)
        except UserError as error:
            self.say(str(error), bad=True)
        self._draw()

    def say(self, message: str, bad: bool = False) -> None:
        """A passing note."""
        self.notify(plain(message), severity="error" if bad else "information", markup=False)

    def action_pause(self) -> None:
        self._ask("pause")

    def action_unpause(self) -> None:
        self._ask("resume")

    def action_checkpoint(self) -> None:
        self._checkpoint = self.follower.view.checkpoint
        self._ask("checkpoint")

    def _tell_checkpoint(self) -> None:
        """What came of the wish: the log, where that is told, may be hidden."""
        newest = self.follower.view.checkpoint
        if newest is not None and newest is not self._checkpoint:
            self.say(f"Saved {newest.path}")
        else:
            self.say("Not saved; the log says why", bad=True)

    def action_stop(self) -> None:
        self.app.push_screen(stop_question(), lambda answer: self._ask("stop") if answer == STOP else None)

    @property
    def _lost(self) -> str:
        """The other machine that does not respond for the run; "" where it is not so."""
        return other_machine(self.follower.client.path) if self.follower.state is RunState.NOT_RESPONDING else ""

    @work(exit_on_error=False, exclusive=True, group="respawn")
    async def action_respawn(self) -> None:
        """Beside the event loop: the launcher of a run that has just stopped is waited for."""
        if (machine := self._lost) and await self.app.push_screen_wait(lost_question(machine)) != START:
            return
        for force in (False, True):
            try:
                await asyncio.to_thread(respawn, self.follower.client.path, data_root=self.mmkd.data_root, force=force)
                break
            except GpuBusyError as error:
                if await self.app.push_screen_wait(busy_question(error)) != START:
                    return
            except (UserError, OSError) as error:
                self.say(str(error), bad=True)
                break
        self.follower.look_again()
        self._tick()

    def action_next_chart(self) -> None:
        if self._by_class:
            self.toggle_class("-feature")
            self.query_one(WeightsByClass).grids[self.has_class("-feature")].focus()
            return
        self.remove_class(*(f"-{name}" for name in CHARTS))
        self.add_class(f"-{self.query_one(Charts).choose_next()}")

    @property
    def _has_weights(self) -> bool:
        """Whether there is anything to say by class."""
        view = self.follower.view
        return view.unweighted or any(phase.by_class is not None for phase in view.phases)

    def action_weights(self) -> None:
        by_class = self._by_class = not self._by_class
        # Not by a class of the screen: each change of that costs the style of every widget, ten times as long.
        self.query_one("#curves").display = not by_class
        self.query_one(WeightsByClass).display = by_class
        self.query_one(ResultPanel).set_class(by_class, "-aside")  # both have a row a teacher or class, and rows are few
        self.set_focus(self.query_one(WeightsByClass).grids[0] if by_class else None)
        self._draw()
        self.refresh_bindings()

    def action_log(self) -> None:
        """Where there is no room beside the charts it takes the place of other things: that is for once, not remembered."""
        if self.has_class("-narrow") or (self.has_class("-finished") and not self.has_class("-high")):
            self.toggle_class("-log-instead")
        else:
            pane = self.query_one(LogPane).toggle_class("-wanted")
            self.mmkd.remember(log=pane.has_class("-wanted"))

    def action_log_y(self) -> None:
        chart = self.query_one(Charts).loss
        chart.toggle_log_y()
        self.mmkd.remember(log_y=chart.log_y)

    def action_smoothing(self) -> None:
        for chart in self.query_one(Charts).all:
            chart.toggle_smoothing()
        self.mmkd.remember(smoothing=chart.smoothing > 0)

    def action_earlier(self) -> None:
        count = len(self.follower.curves.phases)
        self._phase = max((count - 1 if self._phase is None else self._phase) - 1, 0)
        self._look_at()

    def action_later(self) -> None:
        self._phase = None if self._phase is None or self._phase + 2 >= len(self.follower.curves.phases) else self._phase + 1
        self._look_at()

    def _look_at(self) -> None:
        self.refresh_bindings()
        self._draw()

    def action_compare(self) -> None:
        here, runs_dir = self.follower.client.path, self.mmkd.runs_dir
        question = CompareScreen(runs_dir, here, self.other is not None, ascii=self.mmkd.ascii)
        self.app.push_screen(question, self._compare)

    def _compare(self, choice: Path | str | None) -> None:
        if choice is not None:
            self.other = Follower(DirectoryClient(choice)) if choice != NOBODY and isinstance(choice, Path) else None
            self._tick()
            self._draw()

    def action_copy(self) -> None:
        self._copy(come_back(self.follower.client.path, self.mmkd.runs_dir))

    def action_copy_folder(self) -> None:
        self._copy(str(self.follower.client.path.absolute()))

    def action_copy_error(self) -> None:
        why = notice(self.follower)
        lines = [why.headline if why else "", *self.follower.client.console_tail(CONSOLE_LINES)]
        self._copy("\n".join(plain(line) for line in lines), "the error")

    def _copy(self, text: str, what: str = "") -> None:
        self.app.copy_to_clipboard(text.encode(errors="replace").decode())  # a path may have bytes that are no text
        self.say(f"Copied {what or text}")

    def action_home(self) -> None:
        self.mmkd.go_home()

    # -- leaving

    def leave(self) -> None:
        """Asks while the run is live; else leaves at once."""
        if self.follower.state.live:
            self.app.push_screen(leave_question(), self._left)
        else:
            self.mmkd.exit(self._farewell())

    def _left(self, answer: str | None) -> None:
        if answer == DETACH:
            self.mmkd.exit(self._farewell())
        elif answer == STOP:
            self._leaving = True
            self._ask("stop")

    def _farewell(self) -> str:
        """For the normal screen."""
        path, state = self.follower.client.path, self.follower.state
        if not isinstance(self.follower.client, DirectoryClient):
            return ""
        if state is RunState.GONE:
            return plain(f"The run's folder is gone: {path}")
        command = come_back(path, self.mmkd.runs_dir)
        if state.live:
            return plain(f"The run goes on. Come back with: {command}")
        return plain(f"The run is {'over' if state is RunState.FINISHED else state.value}: {path}. See it again with: {command}")
