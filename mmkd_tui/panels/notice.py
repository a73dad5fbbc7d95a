"""What a person must know now, and what to do about it: crashed, failed, silent, not a number."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual.content import Content
from textual.geometry import Size

from engine.result import lost_by_stopping
from engine.run_client import Process
from engine.run_state import RunState
from engine.text import one_line
from mmkd_tui.follow import Follower
from mmkd_tui.widgets.glyphs import glyphs
from mmkd_tui.widgets.lines import Line, LinesWidget, Span, fit
from mmkd_tui.widgets.table import shown_text

LIMIT = 400  # characters of an untrusted message
MOST = 5  # lines
HEADLINE = "notice--headline"


@dataclass(frozen=True, slots=True)
class Notice:
    """A headline and what can be done. Both may hold untrusted text."""

    headline: str
    remedy: str
    bad: bool = True


def come_back(path: Path, runs_dir: Path) -> str:
    """The command that shows a run again."""
    here = Path("runs").absolute() == runs_dir.absolute() == path.parent.absolute()
    return f"mmkd attach {shlex.quote(path.name if here else str(path))}"


def ending(process: Process | None) -> str:
    """How a process that does not listen any more is ended: a signal that asks would wait for it, too."""
    if process is None:
        return "end its process"
    return f"end its process: kill -9 {process.pid}" + ("" if process.here else f" on {one_line(process.machine, 60)}")


def notice(follower: Follower) -> Notice | None:
    """The most pressing thing; None where all is well."""
    view, state, path = follower.view, follower.state, follower.client.path
    now = follower.curves.now
    where = f"epoch {now.alarm:.1f} of {now.label}" if now is not None and now.alarm is not None else ""
    if state is RunState.FAILED:
        result = follower.client.result() or {}  # all that there is of a run that failed before it began
        message = (view.ended.message if view.ended else "") or result.get("message", "") or "the log tells more"
        again = "R tries again once that is mended" if result.get("mistake") else "R starts it again from its newest checkpoint"
        return Notice(f"The run failed: {one_line(message, LIMIT)}", f"{again}; the log is in {path}/console.log")
    if state is RunState.CRASHED:
        return Notice(
            "The run crashed: its process is gone and left no result.",
            f"R starts it again from its newest checkpoint; {path}/console.log may tell why.",
        )
    if state is RunState.GONE:
        return Notice(
            "The run's folder is gone: it was deleted or moved.", f"What is shown here was read before that, from {path}"
        )
    if state is RunState.NOT_RESPONDING:
        return Notice(
            "The run does not respond: no sign of life for 30 seconds.",
            f"Wait a little; the machine may be overloaded or asleep. If nothing changes, {ending(follower.client.process())}, "
            "then press R here.",
        )
    if where:
        skipped = now.skipped if now is not None else 0
        if skipped:
            headline = f"Loss or gradient is not a number at {where}; steps left out so far: {skipped}."
        else:
            headline = f"The loss is not a number at {where}."
        return Notice(headline, "A smaller train.lr usually mends it.")
    if state is RunState.STOPPED:
        if lost := lost_by_stopping(view.ended.message if view.ended else ""):
            return Notice(f"The run was stopped, but {one_line(lost, LIMIT)}.", f"All it has is in {path}; R goes on with it")
        return Notice("The run was stopped.", f"R goes on from its newest checkpoint. All it has is in {path}", bad=False)
    return None


def lines_of(notice: Notice, width: int, ascii: bool) -> list[Line]:
    """At most `MOST` lines. What can be done begins with the key for it, and keeps its beginning; the headline is cut before."""
    mark = ("! " if ascii else "✖ ") if notice.bad else ""
    remedy = _wrapped(notice.remedy, width, MOST - 1, ascii)
    headline = _wrapped(mark + notice.headline, width, MOST - len(remedy), ascii)
    return [*((Span(line, HEADLINE),) for line in headline), *((Span(line),) for line in remedy)]


def _wrapped(text: str, width: int, most: int, ascii: bool) -> list[str]:
    lines = [line.plain.rstrip() for line in Content(shown_text(text, ascii)).wrap(max(width, 1))]
    if len(lines) > most:
        lines[most - 1 :] = [fit(lines[most - 1], width - 1).rstrip() + glyphs(ascii).more]
    return lines


class NoticeBar(LinesWidget):
    """Shows a notice, or nothing at all."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {HEADLINE}

    DEFAULT_CSS = """
    NoticeBar {
        height: auto;
        padding: 0 1;
        border-left: thick $text-error;
        display: none;
        &.-shown { display: block; }
        &.-calm { border-left: thick $text-primary; }
        & > .notice--headline { text-style: bold; }
    }
    """

    def __init__(self, *, ascii: bool = False, id: str | None = None) -> None:
        super().__init__(ascii=ascii, id=id)
        self._notice: Notice | None = None

    def show(self, notice: Notice | None) -> None:
        """Draws only when there is something else to say."""
        if notice == self._notice:
            return
        self._notice = notice
        self.set_class(notice is not None, "-shown")
        self.set_class(notice is not None and not notice.bad, "-calm")
        self.refresh(layout=True)
        self.changed_data()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(lines_of(self._notice, width, self.ascii)) if self._notice is not None else 0

    def draw(self, width: int, height: int) -> list[Line]:
        return lines_of(self._notice, width, self.ascii) if self._notice is not None else []
