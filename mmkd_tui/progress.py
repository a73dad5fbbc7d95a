"""The headless display of `mmkd run`: a live picture in a terminal, a line now and then elsewhere, always on stderr."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from engine.events import CacheProgress, Event, Log, PhaseStarted, RunStarted, StudentAloneReady, TeacherReady
from engine.text import one_line, plain
from mmkd_tui.figures import number_of, percent
from mmkd_tui.run_view import PhaseView, RunView
from mmkd_tui.widgets.glyphs import prefers_ascii

LINE_EVERY = 30.0  # seconds
LINE_SHARE = 0.01  # of a phase
BAR = 16  # columns of a weight bar


class RunConsole(Console):
    """Standard error, or another `file`, without markup, in ASCII where the app draws in ASCII. Where its reader has gone,
    writing raises; Rich alone would end the process, and the run.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"stderr": True, "markup": False, "highlight": False, "emoji": False} | options)

    @property
    def encoding(self) -> str:
        """Python writes UTF-8 whatever LC_ALL says; Rich chooses what it draws with by this."""
        found = super().encoding
        return "ascii" if prefers_ascii(os.environ, found) else found

    def on_broken_pipe(self) -> None:
        """Called by Rich; the displays below let a lost terminal go."""
        raise BrokenPipeError


class Progress(Protocol):
    """What shows a run while it runs; a context manager that takes events."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def __call__(self, events: Sequence[Event]) -> None: ...


class Quiet:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def __call__(self, events: Sequence[Event]) -> None:
        pass


class LiveProgress:
    """A picture that is drawn anew four times a second; warnings stay above it. A terminal that has gone away is let go."""

    def __init__(self, console: Console) -> None:
        self.view = RunView()
        self.ascii_only = console.options.ascii_only
        self.live: Live | None = Live(console=console, auto_refresh=False, transient=True, get_renderable=self._picture)

    def __enter__(self) -> Self:
        self._try(lambda live: live.start())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._try(lambda live: live.stop())

    def __call__(self, events: Sequence[Event]) -> None:
        """Takes events in and draws."""
        self.view.apply_all(events)
        for event in events:
            if isinstance(event, Log) and event.level != "info" and (line := _announcement(event, self.view)):
                self._warn(line)
        self._try(lambda live: live.refresh())

    def _warn(self, line: str) -> None:
        self._try(lambda live: live.console.print(Text(plain(line), style="yellow"), soft_wrap=True))

    def _try(self, action: object) -> None:
        if self.live is None:
            return
        try:
            action(self.live)  # type: ignore[operator]
        except OSError:
            self.live = None

    def _picture(self) -> RenderableType:
        return picture(self.view, time.time(), self.ascii_only)


class PlainProgress:
    """For logs and pipes: a line when something begins or ends, and in between at most one in 30 s and one a percent."""

    def __init__(self, console: Console) -> None:
        self.console: Console | None = console
        self.view = RunView()
        self.said = 0.0
        self.share = 0.0
        self.cache: PhaseView | None = None  # the teacher cache's, when it has begun

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def __call__(self, events: Sequence[Event]) -> None:
        """Takes events in and says what is due."""
        for event in events:
            self.view.apply_all([event])
            if line := _announcement(event, self.view):
                self._say(line)
            if isinstance(event, PhaseStarted) or (isinstance(event, CacheProgress) and self.view.phase is not self.cache):
                self.said, self.share = time.monotonic(), 0.0
            if isinstance(event, CacheProgress):
                self.cache = self.view.phase
        phase = self.view.phase
        if phase is None or phase.done or (phase.last is None and phase.name != "cache"):
            return
        if time.monotonic() - self.said >= LINE_EVERY and phase.share - self.share >= LINE_SHARE:
            self._say(f"{phase.label}: {_line(phase, self.view.paused)}")
            self.said, self.share = time.monotonic(), phase.share

    def _say(self, line: str) -> None:
        if self.console is None:
            return
        try:
            self.console.print(Text(plain(line)), soft_wrap=True)
        except OSError:
            self.console = None


def clock(seconds: float | None) -> str:
    """3723 -> `1:02:03`; 63 -> `1:03`."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def bar(share: float, width: int = BAR, ascii_only: bool = False) -> str:
    """A bar of `width` columns, in eighths of a column."""
    if ascii_only:
        return ("#" * round(share * width)).ljust(width)
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return ("█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()).ljust(width)


def picture(view: RunView, now: float, ascii_only: bool = False) -> RenderableType:
    """The whole live picture; `ascii_only` for terminals that cannot show more."""
    if view.started is None:
        return Text("loading ...", style="dim")
    start = view.started
    title = Text.assemble(
        (f"mmkd {plain(start.name)}  ", "bold"),
        plain(view.task, 200),
        (f"  {plain(start.device)}, {clock(view.seconds(now))}", "dim"),
    )
    parts: list[RenderableType] = [title, Text()]
    if view.phase is not None:
        parts += [_phase(view.phase, view, now), Text()]
    if view.teachers:
        parts.append(_teachers(view, ascii_only))
    if view.alone_accuracy is not None:
        source = f" ({view.alone_source})" if view.alone_source == "store" else ""
        parts.append(Text(f"{plain(start.student, 64)} without teachers: {percent(view.alone_accuracy)}{source}"))
    parts += [Text(), Text("Ctrl-C stops after the step and saves" if not view.stopping else "stopping ...", style="dim")]
    return Group(*parts)


def _phase(phase: PhaseView, view: RunView, now: float) -> RenderableType:
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_row(
        Text(plain(phase.label, 32), style="bold"),
        ProgressBar(total=max(phase.steps, 1), completed=phase.step, width=20),
        Text(f"{phase.share:4.0%}"),
        Text(f"{phase.round} {min(phase.epoch + 1, phase.epochs)}/{phase.epochs}"),
        Text("paused" if view.paused else f"{clock(phase.seconds_left(now))} left"),
        Text(f"{phase.images_per_second:,.0f} images/s" if phase.images_per_second is not None else ""),
    )
    return Group(row, Text("  ".join(_losses(phase)) or "starting"), Text("  ".join(_accuracies(phase))))


def _losses(phase: PhaseView) -> list[str]:
    if (last := phase.last) is None:
        return [f"asking {plain(phase.about, 32)}"] if phase.about else []
    if last.loss is None:
        return ["loss is not finite"]
    parts = (("CE", last.ce), ("logit", last.logit), ("feature", last.feature))
    named = [f"{name} {value:.3g}" for name, value in parts if value is not None]
    return [f"loss {last.loss:.4g}" + (f" ({', '.join(named)})" if len(named) > 1 else "")]


def _accuracies(phase: PhaseView) -> list[str]:
    parts = [] if phase.last is None else [f"train {percent(phase.last.accuracy)}"]
    if phase.measured_accuracy is not None:
        parts += [f"validation {percent(phase.measured_accuracy)}", f"best {percent(phase.best_accuracy)}"]
    return parts


def _line(phase: PhaseView, paused: bool) -> str:
    """What a phase has reached, in one line."""
    left = "paused" if paused else f"{clock(phase.seconds_left(time.time()))} left"
    parts = [f"{phase.share:.0%}", f"{phase.round} {min(phase.epoch + 1, phase.epochs)}/{phase.epochs}", left]
    rate = [f"{phase.images_per_second:,.0f} images/s"] if phase.images_per_second is not None else []
    return "  ".join([*parts, *_losses(phase), *_accuracies(phase), *rate])


def _teachers(view: RunView, ascii_only: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("teacher")
    table.add_column("test accuracy", justify="right")
    table.add_column("logit weight")
    table.add_column("feature weight")
    training = view.phase if view.phase and view.phase.name == "teacher" and not view.phase.done else None
    for index, teacher in enumerate(view.teachers):
        weights = (teacher.logit_weight, teacher.feature_weight)
        status = percent(teacher.accuracy) if teacher.accuracy is not None else "waiting"
        if training is not None and training.index == index:
            status = "training"
        table.add_row(Text(plain(teacher.label, 32)), status, *(weight_cell(w, BAR, ascii_only) for w in weights))
    return table


def weight_cell(weight: float | None, width: int = BAR, ascii_only: bool = False) -> Text:
    """A bar and its number; nothing where there is no weight."""
    return Text() if weight is None else Text.assemble((bar(weight, width, ascii_only), "cyan"), f" {weight:.3f}")


def _announcement(event: Event, view: RunView) -> str | None:
    """The line that an event is worth in a log."""
    match event:
        case RunStarted():
            return f"{event.name}: {view.task}, {event.device}; run folder {event.run_dir}"
        case PhaseStarted():
            what = {"teacher": f"training teacher {event.index + 1}, {event.label}", "alone": f"training {event.label}"}
            return f"{what.get(event.phase, f'distilling {event.label}')}, {number_of(event.epochs, 'epoch')}"
        case TeacherReady():
            return f"teacher {event.index + 1}, {event.label}: {percent(event.accuracy)} on the test split ({event.source})"
        case StudentAloneReady():
            return f"student alone: {percent(event.accuracy)} on the test split ({event.source})"
        case Log():
            return f"{event.level}: {one_line(event.message, 500)}"
    return None


def make_progress(console: Console, quiet: bool) -> Progress:
    """The display that suits where stderr goes."""
    if quiet:
        return Quiet()
    drawable = console.is_terminal and not console.is_dumb_terminal  # on a dumb one Rich would draw nothing at all
    return LiveProgress(console) if drawable else PlainProgress(console)
