"""Runs of real processes: started, waited for, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.events import Event
from engine.run_client import DirectoryClient
from engine.run_state import RunState


def wait_until(test: Callable[[], object], what: str, seconds: float = 180) -> None:
    """Fails the test when nothing came of it."""
    deadline = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def distilling(runs: Path) -> list[Path]:
    """The runs in a folder that have come to their distillation, and so to something to save."""
    return [path.parent for path in runs.glob("*/events.jsonl") if '"phase":"distil"' in path.read_text()]


class Watched:
    """A client, the events that it has given so far, and the run's process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.client = DirectoryClient(path)
        self.events: list[Event] = []

    def seen(self, test: Callable[[Event], bool]) -> bool:
        self.events += self.client.poll()
        return any(test(event) for event in self.events)

    def wait_for(self, test: Callable[[Event], bool], what: str) -> None:
        def look() -> bool:
            found = self.seen(test)
            if not found:
                state = self.client.state()
                assert state.live or self.seen(test), (what, state, self.client.console_tail(), self.client.result())
            return found

        wait_until(look, what)

    def wait_for_state(self, state: RunState, seconds: float = 60) -> None:
        wait_until(lambda: self.client.state() is state, f"{state}, not {self.client.state()}", seconds)

    @property
    def pid(self) -> int:
        """Of its process, from the heartbeat, of which the first comes a moment after the first events."""
        wait_until((self.path / "heartbeat.json").exists, "the first heartbeat")
        return int(json.loads((self.path / "heartbeat.json").read_text())["pid"])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


@contextmanager
def no_process_left(runs: Path) -> Iterator[None]:
    """Kills what a failed test would leave at work."""
    try:
        yield
    finally:
        for beat in runs.glob("*/heartbeat.json"):
            watched = Watched(beat.parent)
            if watched.client.state().live:
                watched.kill()
