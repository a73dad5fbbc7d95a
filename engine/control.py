"""How a person's wishes reach a run: pause, resume, checkpoint, stop, from any thread, carried out between two steps."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal, get_args

Command = Literal["pause", "resume", "checkpoint", "stop"]
NOTICES = (signal.SIGUSR1, signal.SIGUSR2)  # that a job's time is almost over; batch systems are asked to send them
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, *NOTICES)  # wishes of the system's, carried out as "stop"
TOGETHER = 2.0  # seconds in which several signals are one request to stop: whoever ends a job tells each of its processes
COMMANDS: tuple[Command, ...] = get_args(Command)


@contextmanager
def on_stop_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Has a function take the signals that ask to stop; main thread only. A lost terminal is no reason to lose a run."""
    before = {number: signal.signal(number, handler) for number in STOP_SIGNALS}
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class StopSignals:
    """The signals that asked to stop: when they came, and which of them says that nobody waits any longer.

    Where a session or a control group is taken down, a run is told by the system and by the process that started it: that is no
    second request. A person's second Ctrl-C is one at any time. The SIGTERM that was given notice of is none, however late.
    """

    def __init__(self) -> None:
        self.first: int | None = None
        self.terminated: float | None = None  # when the first SIGTERM came, by the monotonic clock
        self._interrupted = False
        self._since = 0.0

    def take(self, number: int) -> bool:
        """Notes a signal; True where it is a second request, which ends all at once."""
        now, interrupts = time.monotonic(), number == signal.SIGINT
        first_end = number == signal.SIGTERM and self.terminated is None
        if first_end:
            self.terminated = now
        if self.first is None or (first_end and self.first in NOTICES):
            self.first, self._since, self._interrupted = self.first or number, now, interrupts
            return False
        again = interrupts and self._interrupted
        self._interrupted |= interrupts
        return again or now - self._since > TOGETHER


class Control:
    """A box of wishes. The run empties it at every step; while it is paused, it waits here."""

    def __init__(self) -> None:
        self._wishes: deque[tuple[str, Command]] = deque()
        self._changed = threading.Condition()
        self._numbers = 0

    def request(self, command: Command, id: str | None = None) -> str:
        """Puts a wish in; returns its id, which the run's `acknowledged` event repeats."""
        with self._changed:
            self._numbers += 1
            name = id or str(self._numbers)
            self._wishes.append((name, command))
            self._changed.notify_all()
        return name

    def pause(self) -> None:
        """Hold the run between two steps."""
        self.request("pause")

    def resume(self) -> None:
        """Let a paused run go on."""
        self.request("resume")

    def checkpoint(self) -> None:
        """Save a checkpoint now."""
        self.request("checkpoint")

    def stop(self) -> None:
        """Finish the step in hand, save what there is, and end."""
        self.request("stop")

    def asked_to_stop(self) -> bool:
        """Whether a wish to stop waits to be taken."""
        with self._changed:
            return any(command == "stop" for _, command in self._wishes)

    def take(self, wait: float = 0.0) -> tuple[str, Command] | None:
        """The oldest wish; sleeps up to `wait` seconds until there is one. The run's side."""
        if not self._wishes and not wait:
            return None
        with self._changed:
            self._changed.wait_for(lambda: bool(self._wishes), wait) if wait else None
            return self._wishes.popleft() if self._wishes else None
