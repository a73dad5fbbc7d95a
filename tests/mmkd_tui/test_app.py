"""The app: the way in and out, what it remembers, the terminal that is too small, and that it never needs torch."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.presets import tiny
from support.screens import dashboard, look, played, run, shown, text, until
from support.sweeps import some_sweep

from engine.errors import UserError
from engine.events import RunEnded, to_line
from engine.run import Run
from engine.run_dir import RunDir
from engine.run_state import RunState
from mmkd_tui.app import MmkdApp
from mmkd_tui.curves import LIMIT
from mmkd_tui.fake_client import story
from mmkd_tui.screens.ask import Ask
from mmkd_tui.screens.compare import CompareScreen
from mmkd_tui.settings import Settings, load_settings, save_settings
from mmkd_tui.widgets.chart import LineChart


@pytest.fixture(scope="module")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real run on a few digits, in a folder of runs."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("2026-01-01T000000-tiny", "2026-01-02T000000-tiny"):
        result = Run(tiny(), folder / name, store=folder / "store").execute()
        assert result.state == "done", result.message
    return folder / "2026-01-02T000000-tiny"


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
def test_a_real_run_is_shown_from_its_folder(real_run: Path, size: tuple[int, int]) -> None:
    async def test() -> None:
        app = MmkdApp(runs_dir=real_run.parent, open_run=real_run)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: not dashboard(app).follower.reading)
            await look(pilot)
            said = text(app)
            for words in ("tiny", "finished", "student distilled by mmkd", "resnet14-s1", "student.safetensors"):
                assert words in said
            await pilot.press("w")
            await pilot.pause()
            assert "logit weights by class, epoch 3" in text(app)
            await pilot.press("q")
            await until(pilot, lambda: app._exit)
        assert app.return_value is not None
        assert f"mmkd attach {real_run}" in app.return_value

    run(test())


@pytest.mark.parametrize(
    ("name", "line"), [("aver", "aver weighs all teachers alike (0.500 each)"), ("ce", "ce gives the teachers no weights")]
)
def test_a_real_run_without_weights_of_its_own_says_so(name: str, line: str, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    assert Run(tiny("method={name: " + name + "}"), folder, store=tmp_path / "store").execute().state == "done"

    async def test() -> None:
        app = MmkdApp(runs_dir=tmp_path, open_run=folder)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: not dashboard(app).follower.reading)
            await look(pilot)
            await pilot.press("w")
            await pilot.pause()
            assert line in text(app)

    run(test())


def test_another_run_is_drawn_beside_this_one(real_run: Path) -> None:
    async def test() -> None:
        app = MmkdApp(runs_dir=real_run.parent, open_run=real_run)
        async with app.run_test(size=(160, 48)) as pilot:
            await until(pilot, lambda: not dashboard(app).follower.reading)
            await pilot.press("c")
            await pilot.pause()
            assert isinstance(app.screen, CompareScreen)
            assert len(re.findall("tiny +mmkd +finished", text(app))) == 1  # not this one
            await pilot.press("enter")
            await until(pilot, lambda: text(app).count("other: 2026-01-01T000000-tiny") == 2)
            assert text(app).count("○ other: mmkd ") == 2
            await pilot.press("c")
            await until(pilot, lambda: "no other run" in text(app))
            await pilot.press("up", "up", "enter")
            await pilot.pause()
            await look(pilot)
            assert "2026-01-01T000000-tiny" not in text(app)

    run(test())


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (160, 48)])
def test_runs_of_sweeps_and_tables_are_offered_after_the_others(size: tuple[int, int], tmp_path: Path) -> None:
    """The best of each; of many, the others where they fit what is typed. Here from a run of the sweep itself."""
    runs = {f"r{n}": (f"lr={n}", "done", 1, n / 100) for n in range(30)}
    sweep, locks = some_sweep(tmp_path, runs)
    assert locks == []
    for place in (tmp_path / "tables" / "of-mine" / "aver-s0", tmp_path / "alone"):
        place.mkdir(parents=True)
        (place / "events.jsonl").write_text("")

    async def test() -> None:
        app = MmkdApp(runs_dir=tmp_path, open_run=sweep / "r29")
        async with app.run_test(size=size) as pilot:
            await pilot.press("c")
            await until(pilot, lambda: "more runs" in text(app))
            assert isinstance(app.screen, CompareScreen)
            listed = app.screen.table.table.rows
            names = [row.cells[1] for row in listed]
            assert names == ["alone", *(f"lr-and-beta/lr={n}" for n in (28, 27, 26, 25, 24)), "of-mine/aver-s0"]
            assert "that finds 24 more" in text(app)
            assert "lr-and-beta/lr=28" in text(app)
            await pilot.press(*"lr=7", "enter")
            await pilot.pause()
            other = dashboard(app).other
            assert other is not None
            assert other.client.path == sweep / "r7"

    run(test())


def test_without_another_run_comparing_says_so(tmp_path: Path) -> None:
    async def test() -> None:
        async with shown(played(), runs_dir=tmp_path) as pilot:
            await pilot.press("c")
            await until(pilot, lambda: "no other run" in text(pilot.app))
            await pilot.press("escape")
            assert pilot.app.screen is dashboard(pilot.app)

    run(test())


def test_a_crashed_run_is_resumed_with_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r").mkdir()
    asked: list[Path] = []

    def respawn(path: Path, *, data_root: Path | None = None, force: bool = False) -> None:
        asked.append(path)
        raise UserError("[/red] there is no checkpoint")

    monkeypatch.setattr("mmkd_tui.screens.dashboard.respawn", respawn)

    async def test() -> None:
        app = MmkdApp(runs_dir=tmp_path, open_run=tmp_path / "r")
        async with app.run_test(size=(100, 30), notifications=True) as pilot:
            await until(pilot, lambda: dashboard(app).follower.state is RunState.CRASHED)
            await pilot.press("R")
            await until(pilot, lambda: "[/red] there is no checkpoint" in text(app))
        assert asked == [tmp_path / "r"]

    run(test())


def test_a_run_whose_folder_is_deleted_is_not_said_to_have_crashed(tmp_path: Path) -> None:
    _, (lock, *_) = some_sweep(tmp_path, {"d": ("lr=0.2", "running", 2, 0.88)})
    folder = tmp_path / "sweeps" / "lr-and-beta" / "d"

    async def test() -> None:
        app = MmkdApp(runs_dir=tmp_path, open_run=folder)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: dashboard(app).follower.state is RunState.RUNNING)
            lock.release()
            shutil.rmtree(folder)
            await until(pilot, lambda: "✖ gone" in text(app))
            assert "The run's folder is gone: it was deleted or moved" in text(app)
            assert "crashed" not in text(app)
            assert "Resume" not in text(app)
            await pilot.press("R", "q")
            await until(pilot, lambda: app._exit)
        assert app.return_value == f"The run's folder is gone: {folder}"

    run(test())


@pytest.mark.parametrize("answer", ["enter", "t"])
def test_a_run_whose_machine_is_gone_is_taken_over_after_a_question(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, old = RunDir(tmp_path / "r"), time.time() - 300
    run_dir.path.mkdir()
    run_dir.lock.write_text("4f1d")
    run_dir.heartbeat.write_text(json.dumps({"t": old}))
    os.utime(run_dir.heartbeat, (old, old))
    asked: list[Path] = []
    monkeypatch.setattr("mmkd_tui.screens.dashboard.respawn", lambda path, **other: asked.append(path))

    async def test() -> None:
        app = MmkdApp(runs_dir=tmp_path, open_run=tmp_path / "r")
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: dashboard(app).follower.state is RunState.NOT_RESPONDING)
            await pilot.press("R")
            await until(pilot, lambda: "It was at work on 4f1d" in text(app))
            assert asked == []
            await pilot.press(answer)
            await until(pilot, lambda: app.screen is dashboard(app))
        assert asked == [tmp_path / "r"] * (answer == "t")

    run(test())


@pytest.mark.parametrize("size", [(59, 30), (100, 15), (10, 3)])
def test_a_terminal_that_is_too_small_says_so_in_one_line(size: tuple[int, int]) -> None:
    async def test() -> None:
        async with shown(played(), size) as pilot:
            assert "This" in text(pilot.app)
            assert size[0] < 40 or "too small: mmkd needs 60x16" in text(pilot.app)
            assert "running" not in text(pilot.app)
            await pilot.resize_terminal(100, 30)
            await pilot.pause()
            assert "too small" not in text(pilot.app)
            assert "running" in text(pilot.app)

    run(test())


def test_what_is_opened_or_closed_while_the_terminal_is_too_small_changes_nothing_about_that(tmp_path: Path) -> None:
    async def test() -> None:
        client = played()
        async with shown(client, runs_dir=tmp_path) as pilot:
            await pilot.resize_terminal(50, 30)
            await pilot.press("p")  # unseen, it does nothing
            await pilot.press("q")
            await until(pilot, lambda: isinstance(pilot.app.screen, Ask))
            await pilot.resize_terminal(100, 30)
            await pilot.press("escape")
            await pilot.pause()
            assert "running" in text(pilot.app)
            assert "too small" not in text(pilot.app)
            assert client.requests == []

            await pilot.resize_terminal(50, 12)
            (tmp_path / "r").mkdir()
            pilot.app.open_run(tmp_path / "r")  # type: ignore[attr-defined]
            await until(pilot, lambda: "too small" in text(pilot.app) and len(pilot.app.screen_stack) == 3)
            await pilot.resize_terminal(100, 30)
            await until(pilot, lambda: "crashed" in text(pilot.app))
            assert "too small" not in text(pilot.app)
            await pilot.press("escape")
            await until(pilot, lambda: "running" in text(pilot.app))

    run(test())


def test_it_can_be_left_even_where_it_is_too_small() -> None:
    async def test() -> None:
        async with shown(played(), (40, 10)) as pilot:
            await pilot.press("q", "d")
            await until(pilot, lambda: pilot.app._exit)

    run(test())


def test_a_theme_is_remembered_and_one_that_is_gone_is_no_error() -> None:
    async def test() -> None:
        async with shown(played()) as pilot:
            pilot.app.theme = "ansi-light"
            await pilot.pause()
        assert load_settings().theme == "ansi-light"
        async with shown(played()) as pilot:
            assert pilot.app.theme == "ansi-light"
        save_settings(Settings(theme="gone"))
        async with shown(played()) as pilot:
            assert pilot.app.theme == "textual-dark"

    run(test())


def test_a_theme_that_was_asked_for_and_is_not_there_is_a_mistake() -> None:
    with pytest.raises(UserError, match="ansi-dark"):
        MmkdApp(runs_dir=Path("runs"), theme="gone")


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light", "ansi-dark", "ansi-light"])
def test_every_part_is_drawn_in_every_theme(theme: str) -> None:
    async def test() -> None:
        async with shown(played(), (160, 48), theme=theme) as pilot:
            assert "running" in text(pilot.app)

    run(test())


def test_the_palette_is_ascii_where_all_else_is() -> None:
    async def test() -> None:
        async with shown(played(), (80, 24), ascii=True) as pilot:
            await pilot.press("ctrl+p")
            for keys in ((), tuple("pau"), ("down",)):
                await pilot.press(*keys)
                for _ in range(5):
                    await pilot.pause(0.1)
                    assert text(pilot.app).isascii(), text(pilot.app)
            assert "Pause" in text(pilot.app)
            await pilot.press("escape", "escape", "f2")
            await until(pilot, lambda: "nord" in text(pilot.app))
            assert text(pilot.app).isascii(), text(pilot.app)

    run(test())


def test_the_home_screen_is_where_one_begins_and_returns_to(tmp_path: Path) -> None:
    async def test() -> None:
        app = MmkdApp(runs_dir=tmp_path)
        async with app.run_test(size=(100, 30)) as pilot:
            home = app.screen
            assert type(home).__name__ == "HomeScreen"
            (tmp_path / "r").mkdir()
            app.open_run(tmp_path / "r")
            await until(pilot, lambda: app.screen is not home)
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is home)
        async with shown(played(), runs_dir=tmp_path) as pilot:
            await pilot.press("escape")
            await until(pilot, lambda: type(pilot.app.screen).__name__ == "HomeScreen")

    run(test())


def test_a_long_run_is_read_while_keys_are_answered(tmp_path: Path) -> None:
    folder = tmp_path / "long"
    folder.mkdir()
    events = [event for event in story(epochs=4000) if not isinstance(event, RunEnded)]
    assert len(events) > 25_000
    (folder / "events.jsonl").write_text("".join(map(to_line, events)))

    async def test() -> None:
        app = MmkdApp(runs_dir=tmp_path, open_run=folder)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: bool(app.screen.query_one("#loss", LineChart).series), seconds=10)
            await pilot.press("y")
            assert app.screen.query_one("#loss", LineChart).log_y
            await until(pilot, lambda: not dashboard(app).follower.reading, seconds=60)
            await look(pilot)
            assert "epoch 4000/4000" in text(app)
            assert all(len(series) <= LIMIT for chart in app.screen.query(LineChart) for series in chart.series.values())

    run(test())


def test_no_viewer_imports_torch() -> None:
    code = (
        "import sys, mmkd_tui.app, mmkd_tui.screens.dashboard, mmkd_tui.screens.home, mmkd_tui.fake_client;"
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'numpy') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
