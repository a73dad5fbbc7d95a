"""What a person must know now, and what to do about it: crashed, failed, silent, not a number."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text
from textual.widgets import Static

from engine.run_client import Process
from engine.run_state import RunState
from engine.text import one_line
from mmkd_tui.follow import Follower

LIMIT = 400  # characters of an untrusted message


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
        message = one_line(view.ended.message, LIMIT) if view.ended and view.ended.message else "the log below tells more"
        return Notice(
            f"The run failed: {message}", f"R starts it again from its newest checkpoint; the log is in {path}/console.log"
        )
    if state is RunState.CRASHED:
        return Notice(
            "The run crashed: its process is gone and left no result.",
            f"R starts it again from its newest checkpoint; {path}/console.log may tell why.",
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
        return Notice("The run was stopped.", f"R goes on from its newest checkpoint. All it has is in {path}", bad=False)
    return None


class NoticeBar(Static):
    """Shows a notice, or nothing at all."""

    DEFAULT_CSS = """
    NoticeBar {
        height: auto;
        max-height: 5;
        padding: 0 1;
        border-left: thick $text-error;
        display: none;
        &.-shown { display: block; }
        &.-calm { border-left: thick $text-primary; }
    }
    """

    def __init__(self, *, ascii: bool = False, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._ascii = ascii
        self._notice: Notice | None = None

    def show(self, notice: Notice | None) -> None:
        """Draws only when there is something else to say."""
        if notice == self._notice:
            return
        self._notice = notice
        self.set_class(notice is not None, "-shown")
        if notice is not None:
            self.set_class(not notice.bad, "-calm")
            mark = ("! " if self._ascii else "✖ ") if notice.bad else ""
            self.update(Text.assemble((mark + one_line(notice.headline), "bold"), "\n", one_line(notice.remedy)))
