"""Appends a run's events to its `events.jsonl`, whole lines in order; what a full disk does not take waits for room."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from engine.events import CacheProgress, Event, Metrics, to_line
from engine.run_dir import RunDir
from engine.untrusted import open_regular, read_tail

MOST = 1 << 20  # bytes that wait; beyond, what comes many times a second is left out
MOST_AT_ALL = 1 << 25  # bytes that wait; beyond, the run cannot go on


class EventWriter:
    """The one writer of a run's events, and of what is said to people (`console.log`).

    Where the file cannot be written, the run goes on: lines wait in memory, in order, and are written once that is possible.
    """

    def __init__(self, run_dir: RunDir, tell: Callable[[str, str], None] = lambda level, message: None) -> None:
        """`tell` is given (level, message) when lines begin to wait, and when none does any more. OSError: no file."""
        self._path, self._tell = run_dir.events, tell
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._file = open_regular(run_dir.events, flags)
        self._console = open_regular(run_dir.console, flags)
        self._waiting: deque[bytes] = deque()
        self._bytes = self._left_out = 0
        self._failed = False
        if read_tail(run_dir.events, 1) not in (b"", b"\n"):
            self._add(b"\n")  # a line that a crash tore must not spoil the next one

    def __call__(self, event: Event) -> None:
        """Writes one line, or has it wait. OSError where more would wait than memory should hold."""
        line = to_line(event).encode()
        if self._bytes + len(line) > MOST and isinstance(event, Metrics | CacheProgress):
            self._left_out += 1
            self._write()
        else:
            self._add(line)
        if message := getattr(event, "message", ""):
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.t))
            self._say(f"{stamp} {getattr(event, 'level', event.kind)}: {message}\n")

    def close(self) -> None:
        """After the last event. What still waits is given up."""
        self._write()
        for handle in (self._file, self._console):
            if handle >= 0:
                os.close(handle)
        self._file = self._console = -1

    def _add(self, line: bytes) -> None:
        self._waiting.append(line)
        self._bytes += len(line)
        self._write()

    def _write(self) -> None:
        """All that waits, as far as the disk takes it: of a line that it took in part, the rest comes first."""
        try:
            while self._waiting:
                written = os.write(self._file, self._waiting[0])
                rest = self._waiting[0][written:]
                self._bytes -= written
                if rest:
                    self._waiting[0] = rest
                else:
                    self._waiting.popleft()
        except OSError as error:
            if self._bytes > MOST_AT_ALL:
                raise
            self._trouble(error)
            return
        if self._failed:
            self._failed = False
            left_out = f"; {self._left_out} lines of metrics were left out" if self._left_out else ""
            self._left_out = 0
            self._tell("info", f"{self._path.name} is written again{left_out}")

    def _trouble(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            why = error.strerror or str(error)
            self._tell(
                "error", f"{self._path.name} cannot be written: {why}; the run goes on, its events wait until there is room"
            )

    def _say(self, text: str) -> None:
        with suppress(OSError):  # the events have it
            os.write(self._console, text.encode(errors="replace"))
