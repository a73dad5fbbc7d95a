"""A display of `mmkd run` on a thread of its own: a terminal that takes nothing any more holds up neither heartbeat nor wish."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from engine.events import Event, Metrics
from mmkd_tui.progress import Progress

MOST = 10_000  # events that wait for a terminal
PATIENCE = 2.0  # seconds that the end of a run waits for it


class ConsoleThread:
    """Hands events to a display. While that is stuck, only the newest of metrics in a row waits, and at most `MOST` events."""

    def __init__(self, display: Progress) -> None:
        self._display = display
        self._waiting: deque[Event] = deque(maxlen=MOST)
        self._changed = threading.Condition()
        self._asked = self._over = False
        self._thread = threading.Thread(target=self._run, name="mmkd-console", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join(PATIENCE)

    def __call__(self, events: Sequence[Event]) -> None:
        """Never waits for the display."""
        with self._changed:
            for event in events:
                if isinstance(event, Metrics) and self._waiting and isinstance(self._waiting[-1], Metrics):
                    self._waiting.pop()
                self._waiting.append(event)
            self._asked = True
            self._changed.notify()

    def _run(self) -> None:
        with self._display as display:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._asked or self._over)
                    events, self._asked = list(self._waiting), False
                    self._waiting.clear()
                display(events)
                if self._over and not self._waiting:
                    return
