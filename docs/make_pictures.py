"""Makes README's pictures from a real run's folder: `python docs/make_pictures.py RUN_DIR`."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, RenderableType
from rich.text import Text
from textual.pilot import Pilot

from engine.events import Event, Metrics, from_line
from engine.run_client import DirectoryClient
from engine.run_state import RunState
from mmkd_tui.app import MmkdApp
from mmkd_tui.progress import picture
from mmkd_tui.result_table import result_table
from mmkd_tui.run_view import RunView
from mmkd_tui.screens.dashboard import DashboardScreen

PICTURES = Path(__file__).parent / "pictures"
SIZE = (120, 36)


def events_until(run_dir: Path, share: float) -> list[Event]:
    """All that happened until that share of the distillation."""
    events: list[Event] = []
    for line in (run_dir / "events.jsonl").read_text(encoding="utf-8").splitlines():
        if (event := from_line(line)) is None:
            continue
        events.append(event)
        if isinstance(event, Metrics) and event.phase == "distil" and event.step >= event.steps * share:
            break
    return events


class MidRun(DirectoryClient):
    """A finished run as it was two thirds into its distillation."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._left = events_until(path, 2 / 3)

    def poll(self) -> Sequence[Event]:
        events, self._left = self._left, []
        return events

    def caught_up(self) -> bool:
        return not self._left

    def state(self) -> RunState:
        return RunState.RUNNING

    def result(self) -> None:
        return None


def clean(svg: str) -> str:
    """Without the web font that a browser would be told to load."""
    return re.sub(r"[ \t]+\n", "\n", re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL))


def save(name: str, *parts: RenderableType, width: int = 92) -> None:
    """An SVG of a terminal with plain output in it."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, highlight=False)
    for part in parts:
        console.print(part)
    (PICTURES / name).write_text(clean(console.export_svg(title="mmkd run quickstart")), encoding="utf-8")


async def screens(run_dir: Path, moment: float) -> None:
    """The app's screens, the dashboard's as of that moment of the run."""
    app = MmkdApp(runs_dir=run_dir.parent)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause(2)
        shoot(app, "home.svg")
        await press(pilot, "n")
        await press(pilot, "ctrl+n")
        shoot(app, "wizard.svg")
    app = MmkdApp(runs_dir=run_dir.parent, now=lambda: moment)
    async with app.run_test(size=SIZE) as pilot:
        app.push_screen(DashboardScreen(MidRun(run_dir)))
        await pilot.pause(3)
        shoot(app, "dashboard.svg")
        await press(pilot, "w")
        shoot(app, "weights.svg")


async def press(pilot: Pilot[str], key: str) -> None:
    await pilot.press(key)
    await pilot.pause(1)


def shoot(app: MmkdApp, name: str) -> None:
    (PICTURES / name).write_text(clean(app.export_screenshot(title="mmkd tui")), encoding="utf-8")


def main() -> None:
    run_dir = Path(sys.argv[1]).absolute()
    PICTURES.mkdir(exist_ok=True)
    view = RunView()
    events = events_until(run_dir, 2 / 3)
    for event in events:
        view.apply(event)
    save("run.svg", picture(view, events[-1].t))
    result = json.loads((run_dir / "result.json").read_text(encoding="utf-8"))
    save("result.svg", result_table(result), Text(""), width=84)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MMKD_CONFIG"] = folder
        asyncio.run(screens(run_dir, events[-1].t))


if __name__ == "__main__":
    main()
