"""The app in a test: a run at a place of its story, what stands on the screen, waiting for something to be there."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from textual.app import App
from textual.pilot import Pilot

from engine.events import Event
from mmkd_tui.app import MmkdApp
from mmkd_tui.fake_client import FakeClient, story
from mmkd_tui.screens.dashboard import DashboardScreen

SIZES = ((80, 24), (100, 30), (160, 48))
START = 1_700_000_000.0
STORY = tuple(story())
TEACHING, DISTILLING, END = 20.0, 150.0, 1e6  # seconds of the story


class Clock:
    """Stands still unless it is told to go on."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def played(at: float = DISTILLING, events: Sequence[Event] | None = None) -> FakeClient:
    """A run that has come to this place of its story, and stands there."""
    client = FakeClient(STORY if events is None else events, speed=1.0, clock=Clock())
    client.skip_to(at)
    return client


@contextlib.asynccontextmanager
async def shown(client: FakeClient, size: tuple[int, int] = (100, 30), **options: Any) -> AsyncIterator[Pilot[str]]:
    """The app with this run's dashboard, all of it read and drawn."""
    app = MmkdApp(runs_dir=options.pop("runs_dir", Path("runs")), client=client, now=client._clock, **options)
    async with app.run_test(size=size, notifications=True) as pilot:
        screen = dashboard(app)
        await until(pilot, lambda: not screen.follower.reading)
        screen._tick()
        screen._draw()
        await pilot.pause()
        yield pilot


def dashboard(app: App[Any]) -> DashboardScreen:
    """The dashboard, whatever lies on top of it."""
    return next(screen for screen in app.screen_stack if isinstance(screen, DashboardScreen))


async def advance(pilot: Pilot[str], client: FakeClient, seconds: float) -> None:
    """The run goes on, and the dashboard has seen it."""
    client._clock.now += seconds  # type: ignore[attr-defined]
    await look(pilot)


async def look(pilot: Pilot[str]) -> None:
    """The dashboard reads and draws, its state too."""
    screen = dashboard(pilot.app)
    screen.follower.look_again()
    screen._tick()
    await pilot.pause()
    screen._draw()
    await pilot.pause()


def lines(app: App[Any]) -> list[str]:
    """What stands on the screen."""
    return [strip.text for strip in app.screen._compositor.render_strips()]


def text(app: App[Any]) -> str:
    """The same in one string."""
    return "\n".join(lines(app))


async def until(pilot: Pilot[Any], condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits for it; an assertion fails when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come:\n{text(pilot.app)}"
        await pilot.pause(0.02)


def run(test: Coroutine[Any, Any, None]) -> None:
    """A test that waits."""
    asyncio.run(test)
