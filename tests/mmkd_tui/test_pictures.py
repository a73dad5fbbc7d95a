"""Pictures of the dashboard, compared to letter and colour. MMKD_UPDATE_PICTURES=1 writes them anew: look at them then."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
import textual
from support.screens import DISTILLING, END, SIZES, TEACHING, dashboard, look, played, run, shown

from engine.run_client import RunState

FOLDER = Path(__file__).parent / "pictures"
VERSION = FOLDER / "textual-version"  # another release may draw a border or a colour otherwise
UPDATE = os.environ.get("MMKD_UPDATE_PICTURES") == "1"
THEMES = ("textual-dark", "textual-light", "ansi-dark")

CASES = [
    *(("distilling", DISTILLING, size, theme, "") for size in SIZES for theme in THEMES),
    *((name, at, size, "textual-dark", key) for size in SIZES for name, at, key in (
        ("teachers", TEACHING, ""), ("weights", DISTILLING, "w"), ("finished", END, ""), ("leave", DISTILLING, "q"),
        ("crashed", DISTILLING, ""),
    )),
]  # fmt: skip


def picture(svg: str) -> str:
    """Without what differs from one export to the next."""
    return re.sub(r"terminal-\d+", "terminal", svg)


@pytest.mark.parametrize(("name", "at", "size", "theme", "key"), CASES)
def test_a_picture_is_as_it_was(
    name: str, at: float, size: tuple[int, int], theme: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not UPDATE and VERSION.read_text().strip() != textual.__version__:
        pytest.skip(f"the pictures are of textual {VERSION.read_text().strip()}")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr("mmkd_tui.system.SystemMonitor._run", lambda self, device, make: None)
    monkeypatch.delenv("NO_COLOR", raising=False)
    client = played(at)
    taken: list[str] = []

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
            taken.append(picture(pilot.app.export_screenshot()))

    run(test())
    path = FOLDER / f"{name}-{size[0]}x{size[1]}-{theme}.svg"
    if UPDATE:
        FOLDER.mkdir(exist_ok=True)
        path.write_text(taken[0], encoding="utf-8")
        VERSION.write_text(textual.__version__ + "\n")
    assert taken[0] == path.read_text(encoding="utf-8"), f"{path.name} has changed; MMKD_UPDATE_PICTURES=1 writes it anew"
