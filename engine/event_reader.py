"""Follows a run's `events.jsonl` while it is written: whole lines only, and only so much at a time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import BinaryIO

from engine.events import Event, from_line, number_of
from engine.untrusted import open_regular, read_tail

MOST_EVENTS = 2000  # of one poll
MOST_SECONDS = 0.05  # of one poll
BLOCK = 1 << 20  # bytes read at a time; a longer line is no event
BACKLOG = 25_000_000  # bytes: of more than a writer leaves, not every `metrics` line is taken
_METRICS = b'{"kind":"metrics"'


class EventReader:
    """Events as they come. A line that is not ended waits; what is no event is skipped.

    A file that its writer has thinned begins with the same line as before: there we go on behind the number of the last event
    that was given, so that none comes twice. Any other file in the old one's place starts anew.

    Of a file that is larger than our writers leave it, one in so many `metrics` lines is taken that about `BACKLOG` bytes are.
    Events of every other kind are all given. Without `metrics`, no such line is taken: they are most of a file.
    """

    def __init__(self, path: Path, only_new: bool = False, metrics: bool = True) -> None:
        """`only_new`: events that are there already are passed over; without `metrics`, all of these are, nearly all lines."""
        self.path, self._with_metrics = path, metrics
        self.caught_up = False  # whether the last poll came to the end
        self._file: tuple[int, int] | None = None  # device and inode
        self._offset = 0
        self._overlong = False  # in the middle of a line that is too long
        self._one_in = 1
        self._metrics = 0
        self._first = b""  # the file's first line
        self._newest = -1  # the highest number so far
        self._known = -1  # in the file as it is now, lines up to this number have been given
        if only_new:
            self._go_to_end()

    def poll(self) -> list[Event]:
        """New events since the last call, at most 2,000 or 50 ms' worth. No file is no events."""
        events: list[Event] = []
        try:
            with os.fdopen(open_regular(self.path), "rb") as file:
                self._read(file, events)
        except OSError:
            self.caught_up = True
        return events

    def _go_to_end(self) -> None:
        try:
            with os.fdopen(open_regular(self.path), "rb") as file:
                facts = os.fstat(file.fileno())
                self._first = file.readline(BLOCK)
        except OSError:
            return
        self._file, self._offset = (facts.st_dev, facts.st_ino), facts.st_size
        numbers = map(number_of, read_tail(self.path, BLOCK).split(b"\n"))
        self._newest = max((number for number in numbers if number is not None), default=-1)

    def _read(self, file: BinaryIO, events: list[Event]) -> None:
        facts = os.fstat(file.fileno())
        identity = (facts.st_dev, facts.st_ino)
        if self._file != identity or facts.st_size < self._offset or not self._goes_on(file):
            file.seek(0)
            thinned = self._first.endswith(b"\n") and file.readline(BLOCK) == self._first
            self._known = self._newest = self._newest if thinned else -1
            self._file, self._offset, self._overlong, self._one_in = identity, 0, False, 1
        if self._one_in == 1 and facts.st_size - self._offset > BACKLOG:
            self._one_in, self._metrics = -(-(facts.st_size - self._offset) // BACKLOG), 0
        deadline = time.monotonic() + MOST_SECONDS
        while True:
            file.seek(self._offset)
            block = file.read(BLOCK)
            if not self._take(block, facts.st_size, events, deadline):
                self.caught_up = False
                return
            if len(block) < BLOCK:
                self.caught_up, self._one_in = True, 1
                return

    def _goes_on(self, file: BinaryIO) -> bool:
        """Whether what comes next is what follows. It is not where another file has got the old one's inode number."""
        if not self.caught_up or self._newest < 0:
            return True
        file.seek(self._offset)
        line = file.readline(BLOCK)
        return not line.endswith(b"\n") or number_of(line) == self._newest + 1

    def _take(self, block: bytes, size: int, events: list[Event], deadline: float) -> bool:
        """Takes the whole lines of a block; False when that was enough for one poll."""
        end = block.rfind(b"\n") + 1
        if end == 0:
            if len(block) == BLOCK:
                self._overlong = True
                self._offset += BLOCK
            return time.monotonic() < deadline
        if self._offset == 0:
            self._first = block[: block.index(b"\n") + 1]
        for line in block[: end - 1].split(b"\n"):
            if len(events) >= MOST_EVENTS or time.monotonic() > deadline:
                return False
            self._offset += len(line) + 1
            if self._overlong:
                self._overlong = False
            elif (
                not self._given(line)
                and not self._passed_over(line, size)
                and (event := from_line(line.decode(errors="replace"))) is not None
            ):
                events.append(event)
        return True

    def _given(self, line: bytes) -> bool:
        """Whether this line was given before the file was thinned."""
        number = number_of(line)
        if number is None:
            return self._known >= 0
        if number <= self._known:
            return True
        self._known, self._newest = -1, max(self._newest, number)
        return False

    def _passed_over(self, line: bytes, size: int) -> bool:
        """Whether this line is one of those that nobody asks for, or would see."""
        if not line.startswith(_METRICS):
            return False
        if not self._with_metrics:
            return True
        if self._one_in == 1 or size - self._offset < BLOCK:
            return False
        self._metrics += 1
        return self._metrics % self._one_in != 1
