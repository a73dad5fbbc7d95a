"""Writes a run's `events.jsonl` and what `console.log` says to people, within bounds: however long a run, its folder stays small.

Events are appended, each a whole line with its number. When the file has grown to `LIMIT` bytes, what stays of it (thinning.py)
is written aside and put in its place by a rename: at every moment one whole file is there, and who follows it goes on by the
numbers. A run that never stops talking is cut short: what it says beyond `Allowance` is counted and told.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TextIO

from engine.events import Event, Log, RunEnded, number_of, to_line
from engine.paths import sync_folder
from engine.run_dir import RunDir
from engine.thinning import lines_of, thin
from engine.untrusted import open_regular, open_to_append, read_tail

LIMIT = 24_000_000  # bytes of events.jsonl; more only where what is never thinned takes more than half of it
MESSAGE = 1 << 16  # characters of one message


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
    """Called with each event; from any thread."""

    def __init__(self, run_dir: RunDir, limit: int = LIMIT) -> None:
        """Goes on with the numbers of what is in the folder already."""
        self._dir, self._limit, self._least = run_dir, limit, limit
        self._lock = threading.Lock()
        self._allowed = {"error": Allowance(), "": Allowance()}  # errors do not suffer from the rest
        self._left_out = 0
        with suppress(OSError):
            self._aside.unlink(missing_ok=True)
        torn = read_tail(run_dir.events, 1) not in (b"", b"\n")
        self._console: TextIO = open_to_append(run_dir.console)
        self._file = _appending(run_dir.events, 0)
        self._number = self._next_number()
        if torn:
            self._file.write(b"\n")  # a line that a crash tore must not spoil the next one
            self._file.flush()
        self._size = os.fstat(self._file.fileno()).st_size

    def __call__(self, event: Event) -> None:
        """Writes and flushes one line."""
        with self._lock:
            if isinstance(event, Log):
                event = replace(event, message=_cut(event.message))
                if not self._allows(event.level, event.message):
                    self._left_out += 1
                    return
            if self._left_out and (isinstance(event, RunEnded) or self._allows("", " " * 100)):
                told = f"{self._left_out:,} messages were left out here: too many came at once"
                self._left_out = 0
                self._write(Log(level="warning", message=told))
            self._write(event)

    def close(self) -> None:
        """After the last event."""
        with self._lock:
            self._file.close()
            self._console.close()

    def _allows(self, level: str, message: str) -> bool:
        return self._allowed.get(level, self._allowed[""]).takes(len(message.encode(errors="replace")) + 100)

    def _write(self, event: Event) -> None:
        line = to_line(event, self._number).encode(errors="replace")
        if self._size + len(line) > self._limit:
            self._thin()
        self._file.write(line)
        self._file.flush()
        self._number += 1
        self._size += len(line)
        message = getattr(event, "message", "")
        if message:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.t))
            self._console.write(f"{stamp} {getattr(event, 'level', event.kind)}: {message}\n")
            self._console.flush()

    def _thin(self) -> None:
        """The file as it stays is put in the old one's place. Where that fails (a full disk), the old one is gone on with."""
        try:
            aside = _appending(self._aside, os.O_EXCL)
        except OSError:
            self._limit = self._size + self._least // 4
            return
        try:
            with os.fdopen(open_regular(self._dir.events), "rb") as source:
                thin(source, aside, self._least)
            aside.flush()
            os.fsync(aside.fileno())
            self._aside.replace(self._dir.events)
        except OSError:
            with suppress(OSError):
                aside.close()
            with suppress(OSError):
                self._aside.unlink(missing_ok=True)
            self._limit = self._size + self._least // 4
            return
        self._file.close()
        self._file, self._size = aside, os.fstat(aside.fileno()).st_size
        self._limit = max(self._least, 2 * self._size)
        with suppress(OSError):
            sync_folder(self._dir.path)

    @property
    def _aside(self) -> Path:
        return self._dir.events.with_name(f".{self._dir.events.name}.thinned")

    def _next_number(self) -> int:
        with os.fdopen(open_regular(self._dir.events), "rb") as file:
            return max((number for line in lines_of(file) if (number := number_of(line)) is not None), default=-1) + 1


def _appending(path: Path, flags: int) -> BinaryIO:
    return os.fdopen(open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | flags), "ab")


def _cut(message: str) -> str:
    more = len(message) - MESSAGE
    return message if more <= 0 else f"{message[:MESSAGE]}... ({more:,} characters more)"
