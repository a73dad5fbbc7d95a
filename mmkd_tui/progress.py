"""The headless display of `mmkd run`: a live picture in a terminal, a line now and then elsewhere, always on stderr."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from engine.events import Event, Log, PhaseStarted, RunStarted, StudentAloneReady, TeacherReady
from engine.text import one_line, plain
from mmkd_tui.run_view import PhaseView, RunView, TeacherView

LINE_EVERY = 30.0  # seconds
LINE_SHARE = 0.01  # of a phase
BAR = 16  # columns of a weight bar


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
    """A picture that is drawn anew four times a second. A terminal that has gone away is let go."""

    def __init__(self, console: Console) -> None:
        self.view = RunView()
        self.live: Live | None = Live(console=console, auto_refresh=False, transient=True, get_renderable=self._picture)

    def __enter__(self) -> Self:
        self._try(lambda live: live.start())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._try(lambda live: live.stop())

    def __call__(self, events: Sequence[Event]) -> None:
        """Takes events in and draws."""
        for event in events:
            self.view.apply(event)
        self._try(lambda live: live.refresh())

    def _try(self, action: object) -> None:
        if self.live is None:
            return
        try:
            action(self.live)  # type: ignore[operator]
        except OSError:
            self.live = None

    def _picture(self) -> RenderableType:
        return picture(self.view, time.time())


class PlainProgress:
    """For logs and pipes: a line when something begins or ends, and in between at most one in 30 s and one a percent."""

    def __init__(self, console: Console) -> None:
        self.console: Console | None = console
        self.view = RunView()
        self.said = 0.0
        self.share = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def __call__(self, events: Sequence[Event]) -> None:
        """Takes events in and says what is due."""
        for event in events:
            self.view.apply(event)
            if line := _announcement(event, self.view):
                self._say(line)
            if isinstance(event, PhaseStarted):
                self.said, self.share = time.monotonic(), 0.0
        phase = self.view.phase
        if phase is None or phase.done or phase.last is None:
            return
        if time.monotonic() - self.said >= LINE_EVERY and phase.share - self.share >= LINE_SHARE:
            self._say(f"{phase.label}: {_numbers(phase, self.view.paused)}")
            self.said, self.share = time.monotonic(), phase.share

    def _say(self, line: str) -> None:
        if self.console is None:
            return
        try:
            self.console.print(Text(plain(line)), soft_wrap=True)
        except OSError:
            self.console = None


def percent(share: float | None) -> str:
    """0.9871 -> `98.71 %`."""
    return "" if share is None else f"{share * 100:.2f} %"


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


def picture(view: RunView, now: float) -> RenderableType:
    """The whole live picture."""
    if view.started is None:
        return Text("loading ...", style="dim")
    start = view.started
    title = Text.assemble(
        ("mmkd ", "bold"),
        f"{plain(start.name)}: {len(start.teachers)} teachers -> {start.student} by {start.method}, {start.dataset}",
    )
    title.append(f", {plain(start.device)}, {clock(view.seconds(now))}", style="dim")
    parts: list[RenderableType] = [title]
    if view.phase is not None:
        parts.append(_phase(view.phase, view, now))
    if view.teachers:
        parts.append(_teachers(view))
    if view.alone_accuracy is not None:
        source = f", {view.alone_source}" if view.alone_source == "store" else ""
        parts.append(Text(f"{start.student} without teachers: {percent(view.alone_accuracy)} on the test split{source}"))
    parts.append(Text("Ctrl-C stops after the step and saves" if not view.stopping else "stopping ...", style="dim"))
    return Group(*parts)


def _phase(phase: PhaseView, view: RunView, now: float) -> RenderableType:
    row = Table.grid(padding=(0, 1))
    row.add_row(
        Text(plain(phase.label, 40), style="bold"),
        ProgressBar(total=max(phase.steps, 1), completed=phase.step, width=24),
        Text(f"{phase.share:4.0%}"),
        Text(f"epoch {min(phase.epoch + 1, phase.epochs)}/{phase.epochs}"),
        Text("paused" if view.paused else f"{clock(phase.seconds_left(now))} left"),
    )
    return Group(row, Text("  " + _numbers(phase, paused=False, progress=False)))


def _numbers(phase: PhaseView, paused: bool, progress: bool = True) -> str:
    """What a phase has reached, in one line."""
    parts = []
    if progress:
        left = phase.seconds_left(time.time())
        parts += [f"{phase.share:.0%}", f"epoch {min(phase.epoch + 1, phase.epochs)}/{phase.epochs}", f"{clock(left)} left"]
    if paused:
        parts.append("paused")
    if (last := phase.last) is not None:
        losses = [
            f"{name} {value:.3g}" for name, value in (("CE", last.ce), ("logit", last.logit), ("feature", last.feature)) if value
        ]
        parts.append(f"loss {last.loss:.4g}" if last.loss is not None else "loss is not finite")
        parts[-1] += f" ({', '.join(losses)})" if len(losses) > 1 else ""
        parts.append(f"train {percent(last.accuracy)}")
    if phase.measured_accuracy is not None:
        parts.append(f"validation {percent(phase.measured_accuracy)}, best {percent(phase.best_accuracy)}")
    if phase.images_per_second is not None:
        parts.append(f"{phase.images_per_second:,.0f} images/s")
    return "  ".join(parts) or "starting"


def _teachers(view: RunView) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("teacher")
    table.add_column("test accuracy", justify="right")
    table.add_column("logit weight")
    table.add_column("feature weight")
    training = view.phase if view.phase and view.phase.name == "teacher" and not view.phase.done else None
    for index, teacher in enumerate(view.teachers):
        status = percent(teacher.accuracy) if teacher.accuracy is not None else "waiting"
        if training is not None and training.index == index:
            status = "training"
        table.add_row(Text(plain(teacher.label, 32)), status, *_weights(teacher))
    return table


def _weights(teacher: TeacherView) -> tuple[str, str]:
    weights = (teacher.logit_weight, teacher.feature_weight)
    first, second = ("" if weight is None else f"{bar(weight)} {weight:.3f}" for weight in weights)
    return first, second


def _announcement(event: Event, view: RunView) -> str | None:
    """The line that an event is worth in a log."""
    match event:
        case RunStarted():
            return (
                f"{event.name}: {len(event.teachers)} teachers -> {event.student} by {event.method} on {event.dataset}, "
                f"{event.device}; run folder {event.run_dir}"
            )
        case PhaseStarted():
            what = {"teacher": f"training teacher {event.index + 1}, {event.label}", "alone": f"training {event.label}"}
            return f"{what.get(event.phase, f'distilling {event.label}')}, {event.epochs} epochs"
        case TeacherReady():
            return f"teacher {event.index + 1}, {event.label}: {percent(event.accuracy)} on the test split ({event.source})"
        case StudentAloneReady():
            return f"student alone: {percent(event.accuracy)} on the test split ({event.source})"
        case Log():
            return f"{event.level}: {one_line(event.message, 500)}"
    return None


def make_progress(console: Console, quiet: bool) -> contextlib.AbstractContextManager[Quiet | LiveProgress | PlainProgress]:
    """The display that suits where stderr goes."""
    if quiet:
        return Quiet()
    return LiveProgress(console) if console.is_terminal else PlainProgress(console)
