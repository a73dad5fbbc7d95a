"""The home screen, by keyboard: presets and what they need, runs and what came of them, starting, opening, deleting."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.hosts import Watched, no_process_left
from support.presets import tiny
from support.screens import SIZES, run, text, until
from textual.pilot import Pilot
from textual.widgets import OptionList

from engine.gpu_lock import GpuLock
from engine.preset_yaml import dump_preset
from engine.run_client import DirectoryClient
from engine.run_list import RunSummary
from engine.run_state import RunState
from engine.spawning import spawn
from mmkd_tui.app import MmkdApp
from mmkd_tui.machine import Gpu, Machine
from mmkd_tui.screens import home
from mmkd_tui.screens.ask import Ask
from mmkd_tui.screens.dashboard import DashboardScreen
from mmkd_tui.screens.home import HomeScreen
from mmkd_tui.screens.home_lines import ago, machine_line, offered, progress, run_row, state_cell, teachers_line
from mmkd_tui.stock import Stock
from mmkd_tui.widgets.marks import ASCII, UNICODE
from mmkd_tui.wizard.screen import WizardScreen

HOSTILE = "[/red]x[bold]\x1b[31m"
SHOWN = "[/red]x[bold]\\x1b[31m"


def summary(state: RunState, name: str = "tiny", path: Path = Path("/runs/a"), **other: object) -> RunSummary:
    facts: dict[str, object] = {"share": 0.43, "phase": "distil", "student_accuracy": None, "student_alone_accuracy": None}
    return RunSummary(path, name, "mmkd", "resnet8", time.time() - 90, state, **(facts | {"size": 1} | other))  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def at_home(folder: Path, size: tuple[int, int] = (100, 30), **options: object) -> AsyncIterator[Pilot[str]]:
    """The app, in a folder of its own."""
    os.chdir(folder)
    app = MmkdApp(runs_dir=folder / "runs", **options)  # type: ignore[arg-type]
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: isinstance(app.screen, HomeScreen) and "looking" not in text(app))
        yield pilot


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def some_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[RunSummary]:
    runs = [summary(state, path=tmp_path / state.name) for state in RunState]
    runs.append(summary(RunState.FINISHED, HOSTILE, tmp_path / HOSTILE, student_accuracy=0.975, student_alone_accuracy=0.95))
    monkeypatch.setattr(home, "list_runs", lambda folder: runs)
    return runs


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ascii", [False, True])
def test_an_empty_folder_says_what_to_do(size: tuple[int, int], ascii: bool, tmp_path: Path) -> None:
    async def look() -> None:
        async with at_home(tmp_path, size, ascii=ascii) as pilot:
            said = text(pilot.app)
            for word in ("quickstart", "0 of 3 teachers at hand", "about", "no runs in", "New"):
                assert word in said
            if ascii:
                assert said.isascii()

    run(look())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ascii", [False, True])
def test_runs_say_how_they_stand(size: tuple[int, int], ascii: bool, some_runs: list[RunSummary], tmp_path: Path) -> None:
    async def look() -> None:
        async with at_home(tmp_path, size, ascii=ascii) as pilot:
            said = text(pilot.app)
            narrow = size[0] < 100
            for state in RunState:
                assert state_cell(state, ASCII if ascii else UNICODE, narrow) in said
            for word in (
                SHOWN,
                "97.5 % (+2.5)",
                "distilling 43%" if narrow else "distillation 43%",
                "1m ago" if narrow else "1 min ago",
            ):
                assert word in said
            assert sum(" mmkd " in line for line in said.splitlines() if "ago" in line) == len(some_runs)
            assert "\x1b" not in said

    run(look())


@pytest.mark.parametrize("width", [60, 70, 80, 99])
@pytest.mark.parametrize("ascii", [False, True])
def test_a_narrow_list_says_what_matters_of_each_run_whole(
    width: int, ascii: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """State, accuracy and time at any width, the method wherever there is room; of long names, beginning and end."""
    runs = [summary(state, f"run-{n:02}-of-many-with-a-long-name-{n:02}", tmp_path / str(n)) for n, state in enumerate(RunState)]
    done = {"student_accuracy": 1.0, "student_alone_accuracy": 0.875, "method": "fitnet", "started": time.time() - 99 * 86400 - 1}
    runs.append(replace(summary(RunState.FINISHED, "best", tmp_path / "best"), **done))
    monkeypatch.setattr(home, "list_runs", lambda folder: runs)

    async def look() -> None:
        async with at_home(tmp_path, (width, 40), ascii=ascii) as pilot:
            said = text(pilot.app).splitlines()
            glyphs = ASCII if ascii else UNICODE
            for n, run_ in enumerate(runs[:-1]):
                (line,) = (line for line in said if f"-{n:02} " in line and "run-" in line)
                for word in (f" {state_cell(run_.state, glyphs, True)} ", " 1m ago", progress(run_, True)):
                    assert word in line
                assert (" mmkd " in line) is (width > 70)
            (line,) = (line for line in said if " best " in line)
            assert "100.0 % (+12.5)" in line
            assert " 99d ago" in line
            assert (" fitnet " in line) is (width > 70)

    run(look())


@pytest.mark.parametrize("size", SIZES)
def test_runs_of_one_preset_are_told_apart(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = {"student_accuracy": 0.109, "student_alone_accuracy": 0.171}
    runs = [
        summary(RunState.FINISHED, path=tmp_path / "a", seed=5, **done),
        summary(RunState.FINISHED, path=tmp_path / "b", seed=6, **done),
        summary(RunState.FINISHED, path=tmp_path / "c", seed=6, changed=("train.lr=0.1", HOSTILE), **done),
        summary(RunState.FINISHED, "a-name-as-long-as-its-column", tmp_path / "d", seed=6, changed=("train.lr=0.1",), **done),
    ]
    monkeypatch.setattr(home, "list_runs", lambda folder: runs)

    async def look() -> None:
        async with at_home(tmp_path, size) as pilot:
            said = [line for line in text(pilot.app).splitlines() if "finished" in line]
            assert [" mmkd s5 " in line for line in said] == [True, False, False, False]
            assert [" mmkd s6 " in line for line in said] == [False, True, True, True]
            assert ["train." in line for line in said] == [False, False, True, size[0] >= 160]
            assert all("10.9 % (-6.2)" in line and line.count("ago") == 1 for line in said)

    run(look())


def test_runs_are_found_by_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = [
        replace(summary(state, f"name-{n:03}", tmp_path / f"{n}", seed=n), method=("mmkd", "fitnet")[n % 2])
        for n, state in enumerate([RunState.FINISHED, RunState.FAILED] * 10)
    ]
    monkeypatch.setattr(home, "list_runs", lambda folder: runs)

    async def look() -> None:
        async with at_home(tmp_path, (80, 24)) as pilot:
            screen = pilot.app.screen
            assert isinstance(screen, HomeScreen)
            assert "/ Find" in text(pilot.app).splitlines()[-1]
            for words, count in (("name-01", 10), ("s7 fail", 1), ("zz", 0)):
                await pilot.press("slash", *("space" if letter == " " else letter for letter in words))
                await pilot.pause()
                assert len(screen.runs.rows) == count, words
                assert words in text(pilot.app)
                assert "esc All runs" in text(pilot.app).splitlines()[-1]
                assert ("esc shows all" in text(pilot.app)) is (count == 0)
                await pilot.press("escape")
                assert len(screen.runs.rows) == 20
            await pilot.press("slash", *"s19", "enter", "enter")  # to the runs, and the first of them opened
            await until(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen))
            assert pilot.app.screen.follower.client.path == runs[19].path  # type: ignore[attr-defined]

    run(look())


def test_three_keys_to_a_running_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One, in fact: Enter."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # on the processor, on every machine

    async def look() -> None:
        async with at_home(tmp_path) as pilot:
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen))
            (folder,) = (tmp_path / "runs").iterdir()
            client = DirectoryClient(folder)
            try:
                assert folder.name.endswith("quickstart")
                await until(pilot, lambda: client.state() is RunState.RUNNING, 90)
            finally:
                client.request("stop")
            await until(pilot, lambda: not client.state().live, 60)

    run(look())


@pytest.mark.parametrize("answer", ["enter", "escape", "ctrl+c", "s"])
def test_a_busy_gpu_is_asked_about(answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    held = GpuLock.take("0", tmp_path / "another")

    async def look() -> None:
        async with at_home(tmp_path) as pilot:
            await pilot.press("enter")
            await until(pilot, lambda: "GPU 0 is busy" in text(pilot.app))
            assert "another is at work on it" in text(pilot.app)
            await pilot.press(answer)
            if answer == "s":
                await until(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen))
            else:
                await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen))
                assert not (tmp_path / "runs").exists()

    with no_process_left(tmp_path / "runs"):
        run(look())
    held.release()


def test_enter_on_a_run_opens_it(some_runs: list[RunSummary], tmp_path: Path) -> None:
    async def look() -> None:
        async with at_home(tmp_path) as pilot:
            await pilot.press("tab", "down", "enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen))
            await until(pilot, lambda: some_runs[1].path.name in text(pilot.app))
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen))

    run(look())


def test_the_list_follows_the_runs_and_keeps_its_cursor(some_runs: list[RunSummary], tmp_path: Path) -> None:
    async def look() -> None:
        async with at_home(tmp_path) as pilot:
            await pilot.press("tab", "down", "down")
            screen = pilot.app.screen
            assert isinstance(screen, HomeScreen)
            chosen = some_runs[2].path
            assert screen.runs.current == str(chosen)
            some_runs.insert(0, summary(RunState.STARTING, "newer", tmp_path / "newer"))
            await until(pilot, lambda: "newer" in text(pilot.app))
            assert screen.runs.current == str(chosen)
            some_runs[3:] = []
            await until(pilot, lambda: SHOWN not in text(pilot.app))
            assert screen.runs.current is not None

    run(look())


def test_a_finished_run_is_deleted_after_a_question(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "old"
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text("")
    (folder / "result.json").write_text('{"state": "done", "student_accuracy": 0.5}')

    async def look() -> None:
        async with at_home(tmp_path) as pilot:
            await until(pilot, lambda: "finished" in text(pilot.app))
            await pilot.press("d")  # the presets have the focus
            assert isinstance(pilot.app.screen, HomeScreen)
            await pilot.press("tab", "d")
            assert isinstance(pilot.app.screen, Ask)
            await pilot.press("enter")  # the careful answer comes first
            await pilot.pause()
            assert folder.exists()
            await pilot.press("delete", "escape")
            await pilot.pause()
            assert folder.exists()
            await pilot.press("d", "right", "enter")
            await until(pilot, lambda: "no runs in" in text(pilot.app))
            assert not folder.exists()

    run(look())


def test_a_live_run_is_not_deleted(some_runs: list[RunSummary], tmp_path: Path) -> None:
    async def look() -> None:
        async with at_home(tmp_path) as pilot:
            await pilot.press("tab", "d")
            assert isinstance(pilot.app.screen, HomeScreen)

    run(look())


def test_new_edit_and_back(tmp_path: Path) -> None:
    async def look() -> None:
        async with at_home(tmp_path) as pilot:
            for key, name in (("n", "my-run"), ("e", "quickstart")):
                await pilot.press(key)
                await until(pilot, lambda: isinstance(pilot.app.screen, WizardScreen))
                assert pilot.app.screen.draft.data["name"] == name  # type: ignore[attr-defined]
                await until(pilot, lambda: "Which images" in text(pilot.app))
                await pilot.press("escape")
                await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen))

    run(look())


async def to(pilot: Pilot[str], name: str) -> None:
    """The cursor to the preset of this name."""
    screen = pilot.app.screen
    assert isinstance(screen, HomeScreen)
    await pilot.press(*["down"] * [item.entry.name for item in screen._offered].index(name))


def test_of_many_presets_only_the_one_at_the_cursor_is_told_at_length(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"own-{number:02}.yaml").write_text(
            dump_preset(tiny(f"name=own-{number:02}", f"description=about {number:02}"))
        )

    async def look() -> None:
        async with at_home(tmp_path, (80, 24)) as pilot:
            said = text(pilot.app)
            assert "Three ResNet-20 teach" in said
            assert said.count(" mmkd: ") >= 6  # presets in sight
            await to(pilot, "own-29")
            await until(pilot, lambda: "about 29" in text(pilot.app))
            assert "about 28" not in text(pilot.app)
            await pilot.press("up")
            await until(pilot, lambda: "about 28" in text(pilot.app))
            assert "about 29" not in text(pilot.app)
            assert text(pilot.app).count(" mmkd: ") >= 6

    run(look())


def test_own_presets_are_offered(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(dump_preset(tiny(f"description={HOSTILE!r}")))
    (tmp_path / "other.yaml").write_text("version: 3\n")
    (tmp_path / "folder.yaml").mkdir()
    names = [(item.entry.name, item.own) for item in offered(tmp_path, tmp_path)]
    assert names[0] == ("quickstart", False)
    assert [name for name, own in names if own] == ["tiny"]
    assert ("imagenet-timm", False) in names[names.index(("tiny", True)) :]  # what can be started comes first

    async def look() -> None:
        async with at_home(tmp_path, (80, 24)) as pilot:
            await to(pilot, "tiny")
            await until(pilot, lambda: SHOWN.replace("\\", "\\") in text(pilot.app))
            assert "your mine.yaml" in text(pilot.app)

    run(look())


@pytest.mark.parametrize(("size", "ascii"), [((80, 24), False), ((160, 48), True)])
def test_an_own_preset_that_is_wrong_is_shown_with_its_mistake_and_does_not_run(
    size: tuple[int, int], ascii: bool, tmp_path: Path
) -> None:
    (tmp_path / "typo.yaml").write_text(f'name: typo\nstudnet: {{arch: "{SHOWN}"}}\n')
    (tmp_path / "docker-compose.yaml").write_text("version: 3\nservices: {}\n")
    (tmp_path / "mine.yaml").write_text(dump_preset(tiny()))
    assert [item.entry.name for item in offered(tmp_path, tmp_path) if item.own] == ["tiny", "typo"]

    async def look() -> None:
        async with at_home(tmp_path, size, ascii=ascii) as pilot:
            await to(pilot, "typo")
            await until(pilot, lambda: "your typo.yaml" in text(pilot.app))
            mark = (ASCII if ascii else UNICODE).wrong
            assert re.search(rf"typo +{mark} line 2: did you mean 'student'\?", text(pilot.app))
            assert "Edit" not in text(pilot.app)
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, Ask))
            assert "typo.yaml cannot be read" in text(pilot.app)
            said = " ".join(text(pilot.app).replace("│", " ").replace("|", " ").split())
            for part in ("there is no key 'studnet' in a preset", SHOWN, "student: is missing"):
                assert part in said
            (tmp_path / "typo.yaml").write_text(dump_preset(tiny("name=mended")))
            await pilot.press("enter")
            await until(pilot, lambda: "mended" in text(pilot.app))
            assert not (tmp_path / "runs").exists()

    run(look())


def test_a_row_is_the_preset_that_it_shows_when_files_come_and_go(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(dump_preset(tiny()))

    async def look() -> None:
        async with at_home(tmp_path) as pilot:
            screen = pilot.app.screen
            assert isinstance(screen, HomeScreen)
            await to(pilot, "tiny")
            (tmp_path / "another.yaml").write_text(dump_preset(tiny("name=another")))
            screen.on_screen_resume()
            assert screen.chosen_preset is not None
            assert screen.chosen_preset.entry.name == "tiny"
            await until(pilot, lambda: "another" in text(pilot.app))
            assert screen.chosen_preset.entry.name == "tiny"
            (tmp_path / "tiny.yaml").unlink()
            screen.on_screen_resume()
            assert screen.chosen_preset.entry.name != "tiny"
            await until(pilot, lambda: "tiny " not in text(pilot.app))

    run(look())


@pytest.mark.parametrize("what", ["data", "checkpoint"])
def test_what_cannot_run_says_why(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmkd_tui.starting.find_files", lambda facts, root: None)
    (tmp_path / "mine.yaml").write_text(dump_preset(tiny("teachers.0={arch: resnet8, checkpoint: 'x[/].pth'}")))

    async def look() -> None:
        async with at_home(tmp_path) as pilot:
            await to(pilot, "imagenet-timm" if what == "data" else "tiny")
            await pilot.press("enter")
            await pilot.pause()
            assert isinstance(pilot.app.screen, HomeScreen)
            assert not (tmp_path / "runs").exists()
            (note,) = pilot.app._notifications
            assert ("mmkd data fetch" if what == "data" else "x[/].pth") in note.message

    run(look())


def test_a_run_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")

    async def look() -> None:
        async with at_home(tmp_path) as pilot:
            await pilot.press("enter")
            await until(pilot, lambda: len(pilot.app._notifications) > 0)
            assert isinstance(pilot.app.screen, HomeScreen)

    run(look())


def test_a_click_is_enter(some_runs: list[RunSummary], tmp_path: Path) -> None:
    async def look() -> None:
        async with at_home(tmp_path) as pilot:
            await pilot.click("#runs OptionList", offset=(5, 0))
            await until(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen))

    run(look())


def test_resizing_keeps_everything(some_runs: list[RunSummary], tmp_path: Path) -> None:
    async def look() -> None:
        async with at_home(tmp_path) as pilot:
            await pilot.press("tab", "down")
            for size in ((60, 16), (300, 100), (80, 24), (99, 30)):
                await pilot.resize_terminal(*size)
                await pilot.pause()
                assert "quickstart" in text(pilot.app)
            body = pilot.app.screen.query_one("#runs OptionList", OptionList)
            assert (body.highlighted, body.has_focus) == (1, True)

    run(look())


def test_lines() -> None:
    assert progress(summary(RunState.RUNNING, share=7.0)) == "distillation 100%"
    assert progress(summary(RunState.STARTING, share=None, phase="")) == ""
    assert progress(summary(RunState.STOPPED)) == ""
    assert progress(summary(RunState.FINISHED, student_accuracy=0.9)) == "90.0 %"
    assert [ago(seconds) for seconds in (-5, 90, 7200)] == ["just now", "1 min ago", "2 h ago"]
    assert len(ago(9e6)) == 10
    assert [ago(seconds, True) for seconds in (3, 90, 7200, 9e5)] == ["just now", "1m ago", "2h ago", "10d ago"]
    assert len(ago(9e6, True)) == 7
    assert ago(1e18) == ""
    assert run_row(summary(RunState.PAUSED), ASCII, time.time()).cells[0] == "= paused"
    gpu = Gpu(0, "H100", 80, 80)
    assert machine_line(Machine(1, None, None)) == "1 core, no GPU seen"
    assert machine_line(Machine(2, 10**9, None, (gpu, gpu))) == "2 cores, 1.0 GB, 2 x H100"
    assert all(len(set(vars_) - {" "}) > 0 for vars_ in ASCII.states.values())
    assert all(glyph.isascii() for glyph in ASCII.states.values())


def test_no_viewer_imports_torch() -> None:
    """Not the home screen, nor the wizard, nor what they need."""
    code = (
        "import sys, asyncio, pathlib\n"
        "from mmkd_tui.app import MmkdApp\n"
        "async def look():\n"
        "    app = MmkdApp(runs_dir=pathlib.Path('none'))\n"
        "    async with app.run_test(size=(100, 30)) as pilot:\n"
        "        await pilot.press('n')\n"
        "        for _ in range(6):\n"
        "            await pilot.pause(0.1)\n"
        "            await pilot.press('ctrl+n')\n"
        "        await pilot.pause(0.1)\n"
        "asyncio.run(look())\n"
        "assert 'mmkd_tui.wizard.review' in sys.modules\n"
        "print([name for name in ('torch', 'sklearn', 'numpy', 'safetensors') if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (result.stdout.strip(), result.stderr) == ("[]", "")


def test_the_list_tells_a_real_run(tmp_path: Path) -> None:
    folder = spawn(tiny("train.epochs=1000"), tmp_path / "runs")

    async def look() -> None:
        async with at_home(tmp_path) as pilot:
            await until(pilot, lambda: "running" in text(pilot.app), 90)
            Watched(folder).kill()
            await until(pilot, lambda: "crashed" in text(pilot.app), 10)

    with no_process_left(tmp_path / "runs"):
        run(look())


def test_one_teacher_is_not_counted_as_many() -> None:
    one = tiny("method={name: kd}", "teachers=[{arch: resnet8}]")
    assert teachers_line(Stock(), one) == "0 of 1 teacher at hand"
    given = tiny("method={name: kd}", "teachers=[{arch: resnet8, checkpoint: w.pth}]")
    assert teachers_line(Stock(), given) == "1 teacher at hand"


def test_runs_of_teachers_alone_are_told_as_that() -> None:
    alone = summary(RunState.FINISHED, only_teachers=True)
    assert [run_row(alone, ASCII, time.time(), narrow).cells[2] for narrow in (False, True)] == ["teachers alone", "teachers"]
    assert progress(alone) == ""
