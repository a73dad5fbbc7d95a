"""Pictures of the screens, compared to letter and colour. MMKD_UPDATE_PICTURES=1 writes them anew: look at them then."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import textual
from support.screens import DISTILLING, END, SIZES, START, TEACHING, dashboard, look, played, run, shown, text, until
from support.stock import quickstart
from support.sweeps import some_sweep
from textual.app import App
from textual.pilot import Pilot

from engine.catalog import DATASETS
from engine.events import RunStarted, to_line
from engine.preset_yaml import dump_preset
from engine.run_dir import Lock, RunDir
from engine.run_state import RunState
from mmkd_tui.app import MmkdApp
from mmkd_tui.machine import Machine
from mmkd_tui.screens.home import HomeScreen
from mmkd_tui.wizard.screen import WizardScreen

FOLDER = Path(__file__).parent / "pictures"
VERSION = FOLDER / "textual-version"  # another release may draw a border or a colour otherwise
UPDATE = os.environ.get("MMKD_UPDATE_PICTURES") == "1"
DARK, LIGHT, ANSI = "textual-dark", "textual-light", "ansi-dark"
MACHINE = Machine(cores=8, memory=32 << 30, free=20 << 30)
MIDDLE = (100, 30)

DASHBOARDS = [
    *(("distilling", DISTILLING, size, theme, "") for size in SIZES for theme in (DARK, LIGHT, ANSI)),
    *((name, at, size, DARK, key) for size in SIZES for name, at, key in (
        ("teachers", TEACHING, ""), ("weights", DISTILLING, "w"), ("finished", END, ""), ("leave", DISTILLING, "q"),
        ("crashed", DISTILLING, ""),
    )),
]  # fmt: skip
PLANS = [
    (name, size, theme)
    for name in ("home", "wizard-teachers", "wizard-review")
    for size, theme in (*((size, DARK) for size in SIZES), (MIDDLE, LIGHT), (MIDDLE, ANSI))
]


@pytest.fixture(autouse=True)
def same_everywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not UPDATE and VERSION.read_text().strip() != textual.__version__:
        pytest.skip(f"the pictures are of textual {VERSION.read_text().strip()}")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr("mmkd_tui.system.SystemMonitor._run", lambda self, device, process, make: None)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.chdir(tmp_path)


def taken_of(app: App[Any]) -> str:
    """Without the numbers that differ from one export to the next."""
    return re.sub(r"terminal-\d+", "terminal", app.export_screenshot())


async def at_rest(pilot: Pilot[Any]) -> None:
    """Until a picture is as the one before it: what a thread finds out is drawn when it comes."""
    before = ""
    while (now := taken_of(pilot.app)) != before:
        before = now
        await pilot.pause(0.2)


def compare(app: App[Any], name: str, size: tuple[int, int], theme: str) -> None:
    """With the picture that is kept."""
    taken = taken_of(app)
    path = FOLDER / f"{name}-{size[0]}x{size[1]}-{theme}.svg"
    if UPDATE:
        FOLDER.mkdir(exist_ok=True)
        path.write_text(taken, encoding="utf-8")
        VERSION.write_text(textual.__version__ + "\n")
    assert taken == path.read_text(encoding="utf-8"), f"{path.name} has changed; MMKD_UPDATE_PICTURES=1 writes it anew"


@pytest.mark.parametrize(("name", "at", "size", "theme", "key"), DASHBOARDS)
def test_the_dashboard_is_as_it_was(name: str, at: float, size: tuple[int, int], theme: str, key: str) -> None:
    client = played(at)

    async def test() -> None:
        async with shown(client, size, theme=theme) as pilot:
            if name == "crashed":
                client.forced = RunState.CRASHED
            await look(pilot)
            if key:
                await pilot.press(key)
                await pilot.pause()
                dashboard(pilot.app)._draw()
                await pilot.pause()
            compare(pilot.app, name, size, theme)

    run(test())


@pytest.mark.parametrize(("name", "size", "theme"), PLANS)
def test_home_and_wizard_are_as_they_were(name: str, size: tuple[int, int], theme: str, tmp_path: Path) -> None:
    held = some_runs(tmp_path / "runs")
    for file in DATASETS["fashion-mnist"].files:  # it is here, whatever the machine has besides
        path = tmp_path / "own-data" / "fashion-mnist" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    async def test() -> None:
        app = MmkdApp(runs_dir=tmp_path / "runs", machine=MACHINE, now=lambda: START, theme=theme)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: isinstance(app.screen, HomeScreen) and "crashed" in text(app))
            if name != "home":
                await pilot.press("e")
                await until(pilot, lambda: isinstance(app.screen, WizardScreen))
                wizard = app.screen
                assert isinstance(wizard, WizardScreen)
                number = {"wizard-teachers": 1, "wizard-review": 5}[name]
                await wizard.go(number).wait()
                await until(pilot, lambda: wizard.steps[number].has_focus_within or number == 5)
            await at_rest(pilot)
            compare(app, name, size, theme)

    run(test())
    held.release()


@pytest.mark.parametrize(("size", "theme"), [*((size, DARK) for size in SIZES), (MIDDLE, LIGHT)])
def test_a_sweep_is_as_it_was(size: tuple[int, int], theme: str, tmp_path: Path) -> None:
    path, locks = some_sweep(tmp_path / "runs")

    async def test() -> None:
        app = MmkdApp(runs_dir=tmp_path / "runs", open_run=path, theme=theme)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: "2 at work" in text(app))
            await pilot.pause()
            compare(app, "sweep", size, theme)

    run(test())
    for lock in locks:
        lock.release()


def some_runs(folder: Path) -> Lock:
    """A run that is at work as long as the lock is held, and some that are not any more."""
    ended: dict[str, dict[str, object]] = {
        "finished": {"state": "done", "student_accuracy": 0.9833, "student_alone_accuracy": 0.9715},
        "stopped": {"state": "stopped"},
        "crashed": {},
        "running": {},
    }
    for number, (name, result) in enumerate(ended.items()):
        run_dir = RunDir(folder / name)
        run_dir.path.mkdir(parents=True)
        run_dir.preset.write_text(dump_preset(quickstart()))
        run_dir.events.write_text(to_line(started(run_dir, START - 86_000 / 10**number)))
        beat = {"t": time.time(), "phase": "distil", "step": 430, "steps": 1000, "paused": False}
        run_dir.heartbeat.write_text(json.dumps(beat))
        if result:
            run_dir.result.write_text(json.dumps(result))
        held = Lock(run_dir)
        if name != "running":
            held.release()
    return held


def started(run_dir: RunDir, t: float) -> RunStarted:
    return RunStarted(
        t=t,
        name="quickstart",
        run_dir=str(run_dir.path),
        dataset="digits",
        classes=tuple("0123456789"),
        teachers=("resnet20-s0", "resnet20-s1", "resnet20-s2"),
        student="resnet8",
        method="mmkd",
        device="cpu",
        seed=0,
    )
