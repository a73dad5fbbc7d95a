"""Follows one run for a display: reads what is new in slices of time, and keeps what there is to show."""

from __future__ import annotations

import time
from collections import deque

from engine.control import Command
from engine.errors import UserError
from engine.run_client import RunClient
from engine.run_state import RunState
from mmkd_tui.curves import Curves
from mmkd_tui.run_view import RunView

STATE_EVERY = 1.0  # seconds between two looks at lock and heartbeat


class Follower:
    """A run's view, curves and state, as of the last `step`."""

    def __init__(self, client: RunClient) -> None:
        self.client = client
        self.view = RunView()
        self.curves = Curves()
        self.state = RunState.STARTING
        self.reading = True  # the events written before we came are not all read yet
        self.wishes: dict[str, Command] = {}  # asked for and not yet acknowledged
        self.answered: list[Command] = []  # acknowledged since the step before
        self._looked = -STATE_EVERY
        self._seen: deque[str] = self.view.acknowledged

    def step(self, seconds: float) -> bool:
        """Reads for at most about this long; whether there was anything new."""
        deadline = time.monotonic() + seconds
        news = self._look()
        while True:
            events = self.client.poll()
            if events:
                news = True
                self.view.apply_all(events)
                self.curves.add(events)
            if self.client.caught_up():
                self.reading = False
                break
            if time.monotonic() >= deadline:
                break
        self.answered = [self.wishes.pop(id) for id in self._seen if id in self.wishes]
        return news

    def ask(self, command: Command) -> None:
        """Sends a wish; UserError where that is not possible."""
        self.wishes[self.client.request(command)] = command

    def look_again(self) -> None:
        """Have the state read at the next step."""
        self._looked = -STATE_EVERY

    def _look(self) -> bool:
        """Reads the state now and then."""
        now = time.monotonic()
        if now - self._looked < STATE_EVERY:
            return False
        self._looked = now
        try:
            state = self.client.state()
        except (OSError, UserError):
            return False
        changed = state is not self.state
        self.state = state
        if not state.live:
            self.wishes.clear()  # nobody is there to answer
        return changed
