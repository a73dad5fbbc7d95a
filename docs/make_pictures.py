"""Makes the documentation's pictures: `python docs/make_pictures.py RUN_DIR`, where RUN_DIR is a finished run of quickstart.

Everything in them is real. What else they need is run first, for some minutes, in a temporary folder, with the store's teachers:
quickstart by `aver`, to compare with, and the example of docs/sweeps.md, made shorter.
"""

from __future__ import annotations

import asyncio
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.text import Text
from textual.pilot import Pilot

from engine.events import Event, Metrics, from_line
from engine.run_client import DirectoryClient
from engine.run_state import RunState
from engine.sweeps.manifest import read_manifest
from engine.sweeps.overview import Overview
from mmkd_tui.app import MmkdApp
from mmkd_tui.progress import picture
from mmkd_tui.result_table import result_table
from mmkd_tui.run_view import RunView
from mmkd_tui.screens.dashboard import DashboardScreen

HERE = Path(__file__).absolute().parent
PICTURES = HERE / "pictures"
RUNS = Path("runs")
SIZE, LOW, WIDE, SMALL, HIGH = (120, 36), (120, 30), (136, 32), (100, 28), (100, 42)  # in cells
CELL = 12.2  # units of the SVG
TEXT = re.compile(
    r'<text class="(?P<style>t-r\d+)" x="(?P<x>[\d.]+)"(?P<y> y="[\d.]+") textLength="[\d.]+"(?P<clip>[^>]*)>'
    r"(?P<text>[^<]*)</text>"
)
MMKD = (sys.executable, "-m", "mmkd_tui")
AVER = ("run", "quickstart", "--set", "method={name: aver}", "--set", "name=quickstart-aver", "--quiet")
SLOTS = 2
SWEEP = ("sweep", "sweep.yaml", "--slots", str(SLOTS), "--set", "train.epochs=9", "--set", "evaluate.student_alone=false")


def two_thirds_into(event: Event, phase: str, index: int = 0) -> bool:
    """Whether that training, the index-th of its kind, has come so far with this event."""
    return isinstance(event, Metrics) and (event.phase, event.index) == (phase, index) and event.step >= event.steps * 2 / 3


def distilling(event: Event) -> bool:
    """Two thirds into the distillation."""
    return two_thirds_into(event, "distil")


def teaching(event: Event) -> bool:
    """Two thirds into the training of the second teacher."""
    return two_thirds_into(event, "teacher", 1)


def events_until(run_dir: Path, last: Callable[[Event], bool]) -> list[Event]:
    """All that happened until that event."""
    events: list[Event] = []
    for line in (run_dir / "events.jsonl").read_text(encoding="utf-8").splitlines():
        if (event := from_line(line)) is None:
            continue
        events.append(event)
        if last(event):
            return events
    raise SystemExit(
        f"{run_dir} is no finished run of quickstart that trained its teachers; make one with an empty MMKD_TEACHERS"
    )


class MidRun(DirectoryClient):
    """A finished run as it was at one of its events."""

    def __init__(self, path: Path, last: Callable[[Event], bool]) -> None:
        super().__init__(path)
        self._left = events_until(path, last)
        self.moment = self._left[-1].t

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
    """Smaller, and the same in every viewer: no web font to be loaded, short names, each word where its cell is."""
    svg = re.sub(r"[ \t]+\n", "\n", re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL))
    svg = re.sub(r"terminal-\d+-", "t-", svg).replace("t-line-", "l")
    ruled = set(re.findall(r"\.(t-r\d+) \{[^}]*underline", svg))
    return TEXT.sub(lambda match: match[0] if match["style"] in ruled else words(match), svg)


def words(text: re.Match[str]) -> str:
    """A line's text in pieces without blanks at their ends or more than one between: viewers differ in how wide those are."""
    parts, x = [], float(text["x"])
    for piece in re.split(r"((?:&#160;|\u2800){2,}|^&#160;|&#160;$)", text["text"]):
        width = CELL * cell_len(html.unescape(piece))
        if html.unescape(piece).strip("\N{NO-BREAK SPACE}\N{BRAILLE PATTERN BLANK}"):
            parts.append(
                f'<text class="{text["style"]}" x="{x:g}"{text["y"]} textLength="{width:g}"{text["clip"]}>{piece}</text>'
            )
        x += width
    return "".join(parts)


def save(name: str, *parts: RenderableType, width: int = 92) -> None:
    """An SVG of a terminal with plain output in it."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, highlight=False)
    for part in parts:
        console.print(part)
    (PICTURES / name).write_text(clean(console.export_svg(title="mmkd run quickstart")), encoding="utf-8")


async def press(pilot: Pilot[str], *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await pilot.pause(1)


def shoot(app: MmkdApp, name: str) -> None:
    (PICTURES / name).write_text(clean(app.export_screenshot(title="mmkd tui")), encoding="utf-8")


async def planning() -> None:
    """The first screen, and the wizard filled from quickstart."""
    app = MmkdApp(runs_dir=RUNS)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause(2)
        shoot(app, "home.svg")
        await pilot.resize_terminal(*WIDE)
        await press(pilot, "e", "ctrl+n")
        shoot(app, "wizard.svg")
        await pilot.resize_terminal(*SIZE)
        await press(pilot, "ctrl+n", "ctrl+n")
        shoot(app, "wizard-method.svg")
        await pilot.resize_terminal(*SMALL)
        await press(pilot, "ctrl+n", "ctrl+n")
        shoot(app, "wizard-review.svg")


async def running(run_dir: Path) -> None:
    """The dashboard while teachers are trained and while the student is, beside another run and at the end; its help."""
    async with dashboard(MidRun(run_dir, teaching), LOW) as (app, _):
        shoot(app, "dashboard-teachers.svg")
    async with dashboard(MidRun(run_dir, distilling), SIZE) as (app, pilot):
        shoot(app, "dashboard.svg")
        await press(pilot, "c", "enter")
        await pilot.pause(2)
        shoot(app, "compare.svg")
    async with dashboard(MidRun(run_dir, distilling), SMALL) as (app, pilot):
        await press(pilot, "w")
        shoot(app, "weights.svg")
        await pilot.resize_terminal(*HIGH)
        await press(pilot, "question_mark")
        shoot(app, "help.svg")
    app = MmkdApp(runs_dir=RUNS, open_run=run_dir)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause(3)
        shoot(app, "finished.svg")


@asynccontextmanager
async def dashboard(run: MidRun, size: tuple[int, int]) -> AsyncIterator[tuple[MmkdApp, Pilot[str]]]:
    """The app as it showed that moment."""
    app = MmkdApp(runs_dir=RUNS, now=lambda: run.moment)
    async with app.run_test(size=size) as pilot:
        app.push_screen(DashboardScreen(run))
        await pilot.pause(3)
        yield app, pilot


async def sweeping(folder: Path, sweep: subprocess.Popen[bytes]) -> None:
    """A sweep at work, when there is something to see of all that it does."""
    app = MmkdApp(runs_dir=RUNS)
    async with app.run_test(size=SMALL) as pilot:
        while not at_its_best(folder):
            if sweep.poll() is not None:
                raise SystemExit("the sweep was over before all of its states were seen together; try again")
            await pilot.pause(0.2)
        app.open_sweep(folder)
        await pilot.pause(0.7)
        shoot(app, "sweep.svg")


def at_its_best(folder: Path) -> bool:
    """Whether some runs of a sweep are done, held, in the queue and at work, one of these well into its distillation."""
    if (manifest := read_manifest(folder)) is None:
        return False
    overview = Overview(manifest)
    overview.look()
    learning = any(row.group == "at work" and row.phase == "distil" and row.epoch > 0 for row in overview.rows)
    return learning and overview.counts["at work"] == SLOTS and all(overview.counts[group] for group in ("done", "held", "queue"))


def main() -> None:
    given = Path(sys.argv[1]).absolute()
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MMKD_CONFIG"] = f"{folder}/config"
        os.chdir(folder)
        run_dir = RUNS / given.name
        shutil.copytree(given, run_dir)
        view = RunView()
        events = events_until(run_dir, distilling)
        for event in events:
            view.apply(event)
        save("run.svg", picture(view, events[-1].t))
        result = json.loads((run_dir / "result.json").read_text(encoding="utf-8"))
        save("result.svg", result_table(result), Text(""), width=84)
        subprocess.run([*MMKD, *AVER], check=True)
        (example,) = re.findall(r"```yaml\n(name: digits-lr-beta\n.*?)```", (HERE / "sweeps.md").read_text(), re.DOTALL)
        Path("sweep.yaml").write_text(example, encoding="utf-8")
        with subprocess.Popen([*MMKD, *SWEEP]) as sweep:
            asyncio.run(sweeping(RUNS / "sweeps" / "digits-lr-beta", sweep))
            asyncio.run(planning())
        asyncio.run(running(run_dir))


if __name__ == "__main__":
    main()
