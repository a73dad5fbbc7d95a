"""The lines on top of the dashboard: which run, in which state, how far, how fast."""

from __future__ import annotations

from typing import ClassVar

from engine.control import Command
from engine.events import RunStarted
from mmkd_tui.figures import number_of, percent
from mmkd_tui.follow import Follower
from mmkd_tui.progress import clock
from mmkd_tui.run_view import PhaseView, RunView
from mmkd_tui.states import said
from mmkd_tui.widgets.glyphs import Glyphs
from mmkd_tui.widgets.lines import Line, LinesWidget, Span, cut, shown, width_of

NAME, VALUE, NOTE, BAR, TROUGH = "status--name", "status--value", "status--note", "status--bar", "status--trough"
WAITING: dict[Command, str] = {"pause": "pausing", "resume": "going on", "checkpoint": "saving", "stop": "stopping"}

Parts = list[Line]


def row(parts: Parts, width: int, gap: int = 2) -> Line:
    """Parts beside each other, the most important first; those that have no room are left out."""
    spans: list[Span] = []
    used = 0
    for part in parts:
        size = width_of(part) + (gap if spans else 0)
        if used + size > width:
            continue
        if spans:
            spans.append(Span(" " * gap))
        spans += part
        used += size
    return tuple(spans)


def pair(name: str, value: str) -> Line:
    """`lr 0.05`."""
    return (Span(f"{name} ", NOTE), Span(value, VALUE))


def title(follower: Follower, now: float, width: int, glyphs: Glyphs, label: str = "", changed: str = "") -> Line:
    """Name, state, what tells the run from others of its sweep, time since the start, device, seed, task, settings."""
    view, state = follower.view, said(follower.state, glyphs.ascii)
    word, tone = state.word, state.tone
    if follower.wishes:
        word, tone = WAITING[list(follower.wishes.values())[-1]] + ("..." if glyphs.ascii else "…"), "wait"
    elif view.stopping and follower.state.live:
        word, tone = "stopping" + ("..." if glyphs.ascii else "…"), "wait"
    elif follower.reading:
        word, tone = "reading" + ("..." if glyphs.ascii else "…"), "wait"
    name = shown(view.started.name if view.started else follower.client.path.name, glyphs.ascii)
    parts: Parts = [
        (Span(cut(name, max(width // 3, 12), glyphs.more), NAME),),
        (Span(f" {state.glyph} {word} ", f"status--{tone}"),),
    ]
    if label:
        parts.append((Span(cut(shown(label, glyphs.ascii), max(width // 3, 12), glyphs.more), NAME),))
    if view.started is not None:
        parts.append((Span(clock(_elapsed(follower, now)), VALUE),))
        parts.append((Span(cut(shown(view.started.device, glyphs.ascii), 32, glyphs.more), NOTE),))
        parts.append(pair("seed", cut(str(view.started.seed), 20, glyphs.more)))
        parts.append((Span(shown(_what(view.started, width - width_of(row(parts, width)) - 2), glyphs.ascii), NOTE),))
        parts.append((Span(cut(shown(changed, glyphs.ascii), max(width // 3, 12), glyphs.more), NAME),))
    return row(parts, width)


def _what(started: RunStarted, room: int) -> str:
    """The task; without the teachers where there is no room for them."""
    teachers = number_of(len(started.teachers), "teacher")
    if started.only_teachers:
        return f"{teachers} alone on {started.dataset}"
    task = f"{started.student} on {started.dataset}"
    taught = f"{teachers} to {task}"
    return taught if started.teachers and len(taught) <= room else task


def _elapsed(follower: Follower, now: float) -> float:
    """Of a run whose process is gone: until its last event."""
    view = follower.view
    return view.seconds(now if follower.state.live or view.latest is None else view.latest)


def progress(view: RunView, live: bool, now: float, width: int, glyphs: Glyphs) -> Line:
    """The training in hand: how much of it is done, and the time it still takes."""
    phase = view.phase
    if phase is None:
        done = view.ended is not None and view.ended.state == "done"  # a run of teachers that were all in the store
        none = "no training was needed" if done else "no training was begun"
        return (Span("loading the data" if live else none, NOTE),)
    parts: Parts = [
        (Span(cut(phase_name(view, phase, glyphs), max(width // 3, 16), glyphs.more), NAME),),
        _bar(phase.share, max(min(width // 5, 40), 8), glyphs),
        (Span(f"{phase.share:4.0%}", VALUE),),
        pair(phase.round, f"{min(phase.epoch + 1, phase.epochs)}/{phase.epochs}"),
    ]
    if live and not phase.done:
        left = phase.seconds_left(phase.at if view.paused and phase.at is not None else now)
        parts.append((Span(clock(left), VALUE), Span(" left", NOTE)) if left is not None else (Span("starting", NOTE),))
    return row(parts, width)


def phase_name(view: RunView, phase: PhaseView, glyphs: Glyphs) -> str:
    """`teacher 2/3 vgg13`, or the label of another training."""
    label = shown(phase.label, glyphs.ascii)
    return f"teacher {phase.index + 1}/{len(view.teachers)} {label}" if phase.name == "teacher" else label


def _bar(share: float, width: int, glyphs: Glyphs) -> Line:
    steps = len(glyphs.fills) - 1
    filled = round(share * width * steps)
    whole, part = divmod(filled, steps)
    text = glyphs.fills[-1] * whole + (glyphs.fills[part] if part else "")
    return (Span(text, BAR), Span(("." if glyphs.ascii else "░") * (width - len(text)), TROUGH))


def numbers(phase: PhaseView | None, live: bool, width: int, glyphs: Glyphs) -> Line:
    """The newest figures of the training in hand. Once the run is over, what it has reached comes before how fast it went."""
    if phase is None:
        return ()
    if phase.last is None:
        pace = phase.steady_images_per_second
        asked = [pair("asking", shown(phase.about, glyphs.ascii))] if phase.about else []
        return row([*asked, *([(Span(f"{pace:,.0f}", VALUE), Span(" images/s", NOTE))] if pace is not None else [])], width)
    last = phase.last
    loss = pair("loss", "NaN" if last.loss is None else f"{last.loss:.4g}")
    measured = [] if phase.measured_accuracy is None else [pair("validation", percent(phase.measured_accuracy))]
    best: Parts = []
    if phase.best_accuracy is not None:
        epoch = "" if phase.best_epoch is None else f" (epoch {phase.best_epoch + 1})"
        best.append(pair("best", percent(phase.best_accuracy) + epoch))
    parts: Parts = [loss, *measured] if live else [*best, *measured, loss]
    if (pace := phase.steady_images_per_second) is not None:
        parts.append((Span(f"{pace:,.0f}", VALUE), Span(" images/s", NOTE)))
    parts.append(pair("lr", f"{last.lr:.3g}"))
    parts += best if live else []
    if last.hard_accuracy is not None:
        parts.append(pair("hard buffer", percent(last.hard_accuracy)))
    if last.logit_gradient is not None:
        pieces = [f"{value:.2g}" for value in (last.logit_gradient, last.feature_gradient) if value is not None]
        parts.append(pair("hyper-gradient", " / ".join(pieces)))
    return row(parts, width)


class StatusLines(LinesWidget):
    """Three lines; the last is left out where the widget is lower."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        NAME,
        VALUE,
        NOTE,
        BAR,
        TROUGH,
        *(f"status--{tone}" for tone in ("good", "calm", "wait", "bad")),
    }

    DEFAULT_CSS = """
    StatusLines {
        height: 3;
        padding: 0 1;
        & > .status--name { text-style: bold; }
        & > .status--value { text-style: bold; }
        & > .status--note { color: $text-muted; }
        & > .status--bar { color: $text-primary; }
        & > .status--trough { color: $text-muted; }
        & > .status--good { color: $text-success; text-style: bold reverse; }
        & > .status--calm { text-style: bold reverse; }
        & > .status--wait { color: $text-warning; text-style: bold reverse; }
        & > .status--bad { color: $text-error; text-style: bold reverse; }
    }
    """

    def __init__(self, *, label: str = "", changed: str = "", ascii: bool = False, id: str | None = None) -> None:
        """`label`: the run's in its sweep. `changed`: settings that were given beside its preset."""
        super().__init__(ascii=ascii, id=id)
        self._label, self._changed = label, changed
        self._follower: Follower | None = None
        self._now = 0.0

    def show(self, follower: Follower, now: float) -> None:
        """As of `now`, in seconds since the epoch."""
        self._follower, self._now = follower, now
        self.changed_data()

    def draw(self, width: int, height: int) -> list[Line]:
        if self._follower is None:
            return []
        view = self._follower.view
        return [
            title(self._follower, self._now, width, self.glyphs, self._label, self._changed),
            progress(view, self._follower.state.live, self._now, width, self.glyphs),
            numbers(view.phase, self._follower.state.live, width, self.glyphs),
        ]
