"""Serving a run in the process that owns it: the main thread minds signals, heartbeat and control file; training has its own.

`mmkd run` serves in the foreground, `python -m engine.host RUN_DIR` detached.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from types import FrameType

from engine.console_file import bound_console
from engine.control import COMMANDS, StopSignals, on_stop_signals
from engine.events import Acknowledged, Averages, CacheProgress, Event, PhaseStarted, RunStarted
from engine.file_systems import on_network
from engine.result import Result
from engine.run import Run
from engine.untrusted import open_regular

TICK = 0.25  # seconds between two looks at the queue of events
GRACE = 25.0  # seconds after SIGTERM in which the run should have stopped by itself; who sent it may wait no longer than 30
BEAT = 1.0  # seconds between two heartbeats

View = Callable[[Sequence[Event]], None]


class EndedAtOnce(KeyboardInterrupt):
    """Nobody waits for the run any more: a second signal came, or the time to stop in is over. The process must end now."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


@dataclass(frozen=True, slots=True)
class Served:
    """How a run ended, and the signal that stopped it, if one did."""

    result: Result
    signal: int | None


def serve(run: Run, view: View | None = None) -> Served:
    """Runs `run` on the thread `mmkd-train` and keeps it in touch with the world until it ends; main thread only.

    `view` is given what has happened, four times a second. A first signal of STOP_SIGNALS asks the run to stop after its step;
    a second request (see StopSignals) raises EndedAtOnce, and so does the end of GRACE after a SIGTERM. SIGHUP is ignored: a
    lost terminal is no reason to lose a run.
    """
    loop = _Loop(run, view)
    with on_stop_signals(loop.on_signal):
        return Served(loop.run_to_end(), loop.stops.first)


class _Loop:
    def __init__(self, run: Run, view: View | None) -> None:
        self.run, self.view = run, view
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.control = _ControlFile(run)
        self.stops = StopSignals()
        self.beat = 0.0
        self.position: dict[str, object] = {}

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stops.take(number):
            raise EndedAtOnce(number)
        # The lock that Control takes may be held by this very thread: ask from the loop, not from here.

    def run_to_end(self) -> Result:
        self.run.subscribe(self.events.put)
        self.run.start()
        asked = False
        try:
            while (result := self.run.join(0)) is None:
                if self.stops.first is not None and not asked:
                    asked = True
                    self.run.control.stop()
                if self.stops.terminated is not None and time.monotonic() - self.stops.terminated > GRACE:
                    raise EndedAtOnce(signal.SIGTERM)
                self._look()
            self._look(wait=False)
            return result
        except EndedAtOnce:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """Says in the folder how it ended: whatever the run is doing, its files are whole at any moment. Of several processes,
        one alone does not know whether it has.
        """
        if self.run.ranks.size > 1:
            return
        folder = self.run.dir
        if folder.events.exists() and not folder.result.exists():
            said = Result(str(folder.path), state="stopped", message="ended at once; what was saved before is whole")
            known = self.run.preset
            said = replace(said, name=known.name, method=known.method.name, seed=known.seed, only_teachers=known.only_teachers)
            with suppress(OSError):
                folder.write_json(folder.result, asdict(said))

    def _look(self, wait: bool = True) -> None:
        """Waits up to a tick for an event, then hands on all that have come."""
        batch: list[Event] = []
        if wait:
            self.run.join(TICK)
        while not self.events.empty():
            batch.append(self.events.get())
        for event in batch:
            self._note(event)
        if self.view is not None:
            self.view(batch)
        if self.position:
            self.control.read()
            self._heartbeat()

    def _note(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.position = {"phase": "start", "step": 0, "paused": False}
        elif isinstance(event, PhaseStarted):
            steps = event.epochs * event.steps_per_epoch
            self.position |= {"phase": event.phase, "index": event.index, "step": event.step, "steps": steps}
        elif isinstance(event, CacheProgress):
            self.position |= {"phase": "cache", "index": 0, "step": event.done, "steps": event.total}
        elif isinstance(event, Averages):
            self.position["step"] = event.step
        elif isinstance(event, Acknowledged) and event.command in ("pause", "resume"):
            self.position["paused"] = event.command == "pause"
            self.beat = 0.0  # a viewer is waiting for it

    def _heartbeat(self) -> None:
        now = time.monotonic()
        if now - self.beat < BEAT:
            return
        self.beat = now
        bound_console(self.run.dir)
        target = self.run.dir.heartbeat
        aside = target.with_name(f".{target.name}.partial")
        try:
            with os.fdopen(open_regular(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as file:
                file.write(json.dumps({"t": time.time(), "pid": os.getpid(), **self.position}))
            aside.replace(target)
        except OSError:
            # A full disk must not end a run, nor have it taken for dead: a changed time needs no room.
            with suppress(OSError):
                aside.unlink(missing_ok=True)
                os.utime(target)
        if self.far:
            self._send_events()

    @cached_property
    def far(self) -> bool:
        """Whether the run is looked at from other machines: asked once, since a mount stays."""
        return on_network(self.run.dir.path)

    def _send_events(self) -> None:
        """A network's file system may keep for itself for half a minute what is written to a file that stays open. Here, where
        no step waits for it.
        """
        with suppress(OSError), os.fdopen(open_regular(self.run.dir.events), "rb") as file:
            os.fsync(file.fileno())


class _ControlFile:
    """Follows `control.jsonl`: one wish a line, whole lines only. Anybody may have written it."""

    BLOCK = 1 << 16  # bytes; no wish is longer

    def __init__(self, run: Run) -> None:
        self.run = run
        self.offset = 0

    def read(self) -> None:
        """Passes new wishes on; lines that are none are skipped."""
        try:
            with os.fdopen(open_regular(self.run.dir.control), "rb") as file:
                file.seek(self.offset)
                block = file.read(self.BLOCK)
        except OSError:
            return
        end = block.rfind(b"\n") + 1
        self.offset += end or (len(block) if len(block) == self.BLOCK else 0)
        for line in block[:end].splitlines():
            try:
                wish = json.loads(line)
                if wish["command"] in COMMANDS:
                    self.run.control.request(wish["command"], str(wish["id"])[:64])
            except (ValueError, KeyError, TypeError, RecursionError):
                continue


def exit_code(served: Served) -> int:
    """0 done, 1 failed, 2 the user's mistake, 128 + the signal that stopped it (130 where a person did)."""
    if served.result.state == "stopped":
        return 128 + (served.signal or signal.SIGINT)
    if served.result.state == "failed":
        return 2 if served.result.mistake else 1
    return 0
