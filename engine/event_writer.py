"""Writes a run's `events.jsonl` and what `console.log` says to people, within bounds: however long a run, its folder stays small.

Events are appended, each a whole line with its number. When the file has grown to `LIMIT` bytes, what stays of it (thinning.py)
is written aside and put in its place by a rename: at every moment one whole file is there, and who follows it goes on by the
numbers. A run that never stops talking is cut short: what it says beyond `Allowance` is counted and told. What a full disk does
not take waits in memory, in order, until there is room.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from engine.events import CacheProgress, EpochEnded, Event, Log, Metrics, RunEnded, number_of, to_line
from engine.paths import sync_folder
from engine.run_dir import RunDir
from engine.thinning import LONGEST, lines_of, thin, without_tables
from engine.untrusted import open_regular, read_tail

LIMIT = 24_000_000  # bytes of events.jsonl; more only where what is never thinned takes more than half of it
MESSAGE = 1 << 16  # characters of one message
MOST = 1 << 20  # bytes that wait for room; beyond, what comes many times a second is left out
MOST_AT_ALL = 1 << 25  # bytes that wait; beyond, the run cannot go on
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT


class Allowance:
    """How much may be said: `burst` bytes at once, and `rate` bytes a second in the long run (6 MB a week)."""

    burst = 1 << 20
    rate = 10.0

    def __init__(self) -> None:
        self._left, self._at = float(self.burst), time.monotonic()

    def takes(self, size: int) -> bool:
        """Whether so many bytes may be said now; then they are taken off."""
        now = time.monotonic()
        self._left, self._at = min(self._left + (now - self._at) * self.rate, self.burst), now
        if size > self._left:
            return False
        self._left -= size
        return True


class EventWriter:
    """The one writer of a run's events; called with each, from any thread."""

    def __init__(
        self, run_dir: RunDir, limit: int = LIMIT, tell: Callable[[str, str], None] = lambda level, message: None
    ) -> None:
        """Goes on with the numbers of what is in the folder already. `tell` is given (level, message) when lines begin to wait
        for room, and when none does any more. OSError: no file.
        """
        self._dir, self._tell, self._limit, self._least = run_dir, tell, limit, limit
        self._lock = threading.RLock()  # who tells may write an event of it
        self._allowed = {"error": Allowance(), "": Allowance()}  # errors do not suffer from the rest
        self._unsaid = 0
        self._waiting: deque[bytes] = deque()
        self._bytes = self._left_out = 0
        self._failed = self._too_many_classes = False
        with suppress(OSError):
            self._aside.unlink(missing_ok=True)
        torn = read_tail(run_dir.events, 1) not in (b"", b"\n")
        self._console = open_regular(run_dir.console, _APPEND)
        self._file = open_regular(run_dir.events, _APPEND)
        self._number = self._next_number()
        self._size = os.fstat(self._file).st_size
        if torn:
            self._add(b"\n")  # a line that a crash tore must not spoil the next one

    def __call__(self, event: Event) -> None:
        """Writes one line, or has it wait. OSError where more would wait than memory should hold."""
        with self._lock:
            if isinstance(event, Log):
                event = replace(event, message=_cut(event.message))
                if not self._allows(event.level, event.message):
                    self._unsaid += 1
                    return
            if self._unsaid and (isinstance(event, RunEnded) or self._allows("", " " * 100)):
                told = f"{self._unsaid:,} messages were left out here: too many came at once"
                self._unsaid = 0
                self._take(Log(level="warning", message=told))
            self._take(event)

    def close(self) -> None:
        """After the last event. What still waits is given up."""
        with self._lock:
            self._write()
            for handle in (self._file, self._console):
                if handle >= 0:
                    os.close(handle)
            self._file = self._console = -1

    def _allows(self, level: str, message: str) -> bool:
        return self._allowed.get(level, self._allowed[""]).takes(len(message.encode(errors="replace")) + 100)

    def _take(self, event: Event) -> None:
        line = self._line(event)
        if self._bytes + len(line) > MOST and isinstance(event, Metrics | CacheProgress):
            self._left_out += 1
            self._write()
            return
        if not self._waiting and self._size + len(line) > self._limit:
            self._thin()
        self._number += 1
        self._add(line)
        if message := getattr(event, "message", ""):
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.t))
            self._say(f"{stamp} {getattr(event, 'level', event.kind)}: {message}\n")

    def _line(self, event: Event) -> bytes:
        """One that readers take; where the weights by class would make it too long, it goes without."""
        line = to_line(event, self._number).encode(errors="backslashreplace")
        if len(line) <= LONGEST or not isinstance(event, EpochEnded):
            return line
        if not self._too_many_classes:
            self._too_many_classes = True
            classes = len(event.logit_weights_by_class)
            self._tell("info", f"the weights by class are not kept: of {classes:,} classes they are too many to be shown")
        return self._line(without_tables(event))

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
                self._size += written
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
            self._tell("info", f"{self._dir.events.name} is written again{left_out}")

    def _trouble(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            why = f"cannot be written: {error.strerror or error}; the run goes on, its events wait until there is room"
            self._tell("error", f"{self._dir.events.name} {why}")

    def _say(self, text: str) -> None:
        with suppress(OSError):  # the events have it
            os.write(self._console, text.encode(errors="backslashreplace"))

    def _thin(self) -> None:
        """The file as it stays is put in the old one's place. Where that fails (a full disk), the old one is gone on with."""
        handle = -1
        try:
            handle = open_regular(self._aside, _APPEND | os.O_EXCL)
            with os.fdopen(open_regular(self._dir.events), "rb") as source, os.fdopen(handle, "ab", closefd=False) as aside:
                thin(source, aside, self._least)
            os.fsync(handle)
            self._aside.replace(self._dir.events)
        except OSError:
            if handle >= 0:
                os.close(handle)
            with suppress(OSError):
                self._aside.unlink(missing_ok=True)
            self._limit = self._size + self._least // 4
            return
        os.close(self._file)
        self._file, self._size = handle, os.fstat(handle).st_size
        self._limit = max(self._least, 2 * self._size)
        with suppress(OSError):
            sync_folder(self._dir.path)

    @property
    def _aside(self) -> Path:
        return self._dir.events.with_name(f".{self._dir.events.name}.thinned")

    def _next_number(self) -> int:
        with os.fdopen(open_regular(self._dir.events), "rb") as file:
            return max((number for line in lines_of(file) if (number := number_of(line)) is not None), default=-1) + 1


def _cut(message: str) -> str:
    more = len(message) - MESSAGE
    return message if more <= 0 else f"{message[:MESSAGE]}... ({more:,} characters more)"
