"""In which state a run is: told by its result, its lock and its heartbeat, in that order, never guessed."""

from __future__ import annotations

import platform
import time
from enum import StrEnum
from pathlib import Path

from engine import locks
from engine.run_dir import RunDir
from engine.text import one_line
from engine.untrusted import MOST, as_number, is_there, read_object, read_regular

PATIENCE = 30.0  # seconds without a heartbeat until a run is said not to respond


class RunState(StrEnum):
    """Told by result, lock and heartbeat, in that order."""

    STARTING = "starting"  # the lock is held (or a launcher's, who starts those who will hold it), nothing has come yet
    RUNNING = "running"
    PAUSED = "paused"
    NOT_RESPONDING = "not responding"  # the lock is held (or cannot be seen from here), the heartbeat is older than 30 s
    CRASHED = "crashed"  # no result, and nobody holds the lock
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    GONE = "gone"  # there is no such folder: it was deleted, or moved

    @property
    def live(self) -> bool:
        """Whether a process may still be at work."""
        return self in (RunState.STARTING, RunState.RUNNING, RunState.PAUSED, RunState.NOT_RESPONDING)

    @property
    def responding(self) -> bool:
        """Whether a process is at work and gives signs of life: it is worth waiting for."""
        return self.live and self is not RunState.NOT_RESPONDING

    @property
    def resumable(self) -> bool:
        """Whether a new process could go on with it."""
        return self in (RunState.CRASHED, RunState.STOPPED, RunState.FAILED)


_ENDINGS = {"done": RunState.FINISHED, "stopped": RunState.STOPPED, "failed": RunState.FAILED}


class StateReader:
    """Reads one run's state again and again, and remembers when its heartbeat last changed."""

    def __init__(self, run_dir: RunDir, patience: float = PATIENCE) -> None:
        self.dir, self.patience = run_dir, patience
        self._stamp: tuple[object, ...] | None = None
        self._since = 0.0  # by the monotonic clock

    def read(self) -> RunState:
        """As of now."""
        if (ended := ending(self.dir)) is not None:
            return ended
        held = lock_held(self.dir.lock)
        if held is False and lock_held(self.dir.launcher):
            return RunState.STARTING  # several processes, for the first time or once more
        if held is False:
            # It may have ended between the two looks.
            return ending(self.dir) or (RunState.GONE if _gone(self.dir.path) else RunState.CRASHED)
        beat = read_object(self.dir.heartbeat)
        if beat is None and held:
            return RunState.STARTING
        if not self._fresh(beat):
            return RunState.NOT_RESPONDING
        if beat is None:
            return RunState.STARTING
        return RunState.PAUSED if beat.get("paused") is True else RunState.RUNNING

    def _fresh(self, beat: dict[str, object] | None) -> bool:
        """By the wall clock at the first look; from then on by changes, which no step of that clock can fake or hide."""
        written = as_number(beat.get("t")) if beat else None
        try:
            changed = (self.dir.heartbeat if beat is not None else self.dir.lock).stat().st_mtime
        except OSError:
            changed = 0.0
        stamp = (written, changed)
        if stamp != self._stamp:
            moments = (changed, written if written is not None else changed)
            age = 0.0 if self._stamp else min(abs(time.time() - moment) for moment in moments)
            self._stamp, self._since = stamp, time.monotonic() - age
        return time.monotonic() - self._since <= self.patience


def ending(run_dir: RunDir) -> RunState | None:
    """How the run ended, if `result.json` says so."""
    result = read_object(run_dir.result) or {}
    state = result.get("state")
    return _ENDINGS.get(state) if isinstance(state, str) else None


def lock_held(lock: Path) -> bool | None:
    """Whether a process holds this lock of a run; None where this machine cannot know."""
    try:
        holder = _holder(lock)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return locks.held(lock) if holder in ("", platform.node()) else None


def _gone(path: Path) -> bool:
    try:
        return not is_there(path)
    except OSError:
        return False


def other_machine(path: Path) -> str:
    """The machine that the lock in a run's folder names, where that is not this one: only the heartbeat tells of such a run. ""
    where it is this one, or none is named. Untrusted.
    """
    try:
        holder = _holder(RunDir(path).lock)
    except OSError:
        return ""
    return "" if holder == platform.node() else one_line(holder, 60)


def _holder(lock: Path) -> str:
    return read_regular(lock, MOST).decode(errors="replace").strip()
