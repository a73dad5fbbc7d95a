"""The live view of a sweep: from home, by attach, its rows and orders, and a run opened from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.screens import SIZES, run, text, until
from support.sweeps import RUNS, some_sweep

from engine.run_dir import RunDir
from engine.sweeps.manifest import SweepLock
from mmkd_tui.app import MmkdApp
from mmkd_tui.screens.dashboard import DashboardScreen
from mmkd_tui.screens.home import HomeScreen
from mmkd_tui.screens.sweep import SweepScreen
from mmkd_tui.screens.sweep_lines import bar

HOSTILE = "[/red]x[bold]\x1b[31m"
SHOWN = "[/red]x[bold]\\x1b[31m"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ascii", [False, True])
def test_it_tells_queue_work_ends_and_the_best(size: tuple[int, int], ascii: bool, tmp_path: Path) -> None:
    path, locks = some_sweep(tmp_path)

    async def look() -> None:
        app = MmkdApp(runs_dir=tmp_path, open_run=path, ascii=ascii)
        async with app.run_test(size=size) as pilot:
            await until(pilot, lambda: "looking" not in text(app))
            said = text(app)
            for word in (
                "2 at work",
                "2 in the queue",
                "2 done",
                "1 held",
                "1 failed",
                "98.15",
                "96.95",
                "epoch 12/30",
                "teachers 43%",
            ):
                assert word in said
            assert "Best so far: 98.15 %, test 96.95 %, lr=0.05 beta=10 s0" in said
            assert "no command works on it; mmkd sweep FILE goes on" in said
            assert said.isascii() or not ascii
            lines = [line for line in said.splitlines() if "beta=" in line and "Best" not in line]
            order = [next(folder for folder, facts in RUNS.items() if facts[0] in line) for line in lines]
            assert order == list("dgbacefh")  # at work, done from the best down, held, failed, the queue in its turn
            await pilot.press("o")
            await until(pilot, lambda: "best first" in text(app))
            await pilot.press("o")
            await until(pilot, lambda: "as planned" in text(app))
            lines = [line for line in text(app).splitlines() if "beta=" in line and "Best" not in line]
            assert [facts[0] in line for facts, line in zip(RUNS.values(), lines, strict=True)] == [True] * len(RUNS)

    run(look())
    for lock in locks:
        lock.release()


def test_from_home_to_the_sweep_to_a_run_and_back(tmp_path: Path) -> None:
    _, locks = some_sweep(tmp_path)

    async def look() -> None:
        app = MmkdApp(runs_dir=tmp_path)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: "lr-and-beta" in text(app))
            assert "sweep lr-and-beta" in text(app)
            (row,) = (line for line in text(app).splitlines() if "sweep lr-and-beta" in line)
            assert "3 of 8, 98.2 %" in row
            assert "just now" in row
            await pilot.press("tab", "enter")
            await until(pilot, lambda: isinstance(app.screen, SweepScreen) and "looking" not in text(app))
            await pilot.press("down", "down", "enter")
            await until(pilot, lambda: isinstance(app.screen, DashboardScreen))
            assert app.screen.follower.client.path.name == "b"
            await until(pilot, lambda: "lr=0.05 beta=10 s0" in text(app).splitlines()[0])
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, SweepScreen))
            await pilot.press("end", "enter")  # one that has not begun
            await until(pilot, lambda: len(app._notifications) == 1)
            assert isinstance(app.screen, SweepScreen)
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, HomeScreen))

    run(look())
    for lock in locks:
        lock.release()


def test_a_table_is_called_one_and_goes_on_by_its_own_command(tmp_path: Path) -> None:
    sweep, locks = some_sweep(tmp_path)
    path = tmp_path / "tables" / sweep.name
    path.parent.mkdir()
    sweep.rename(path)

    async def look() -> None:
        app = MmkdApp(runs_dir=tmp_path)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: "table lr-and-beta" in text(app))
            await pilot.press("tab", "enter")
            await until(pilot, lambda: "no command works on it; mmkd table FILE goes on" in text(app))
            assert "sweep" not in text(app).lower()

    run(look())
    for lock in locks:
        lock.release()


def test_it_follows_what_happens(tmp_path: Path) -> None:
    path, locks = some_sweep(tmp_path)
    held = SweepLock(path)

    async def look() -> None:
        app = MmkdApp(runs_dir=tmp_path, open_run=path)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "a command works on it" in text(app))
            run_dir = RunDir(path / "d")
            run_dir.result.write_text(json.dumps({"state": "done", "student_accuracy": 0.99, "best_accuracy": 0.995}))
            for lock in locks:
                lock.release()
            held.release()
            await until(pilot, lambda: "Best so far: 99.50 %" in text(app))
            assert "3 done" in text(app)
            await until(pilot, lambda: "no command works on it" in text(app))

    run(look())


def test_what_a_folder_says_is_shown_as_it_is(tmp_path: Path) -> None:
    path, _ = some_sweep(tmp_path, {"a": (HOSTILE, "done", 30, 0.9)})
    content = json.loads((path / "sweep.json").read_text())
    (path / "sweep.json").write_text(json.dumps(content | {"name": HOSTILE, "description": HOSTILE}))

    async def look() -> None:
        app = MmkdApp(runs_dir=tmp_path, open_run=path)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: "1 done" in text(app))
            assert text(app).count(SHOWN) == 4  # name, description, the best, the row
            (path / "sweep.json").unlink()  # and whatever happens to it
            await pilot.pause(1.2)
            assert SHOWN in text(app)

    run(look())


def test_between_two_runs_of_its_command_a_sweep_is_running(tmp_path: Path) -> None:
    path, _ = some_sweep(tmp_path, {name: RUNS[name] for name in ("a", "f")})  # one is done, one in the queue
    held = SweepLock(path)

    async def look() -> None:
        app = MmkdApp(runs_dir=tmp_path)
        async with app.run_test(size=(100, 30)) as pilot:
            await until(pilot, lambda: "▶ running" in text(app))
            held.release()
            await until(pilot, lambda: "■ stopped" in text(app))

    run(look())


def test_runs_that_crashed_are_counted_in_the_word_of_their_rows(tmp_path: Path) -> None:
    path, locks = some_sweep(tmp_path, {name: RUNS[name] for name in ("d", "e")})
    for lock in locks:
        lock.release()

    async def look() -> None:
        app = MmkdApp(runs_dir=tmp_path, open_run=path)
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: "1 crashed" in text(app))
            assert "1 failed" in text(app)

    run(look())


def test_in_the_smallest_terminal_no_figure_is_cut(tmp_path: Path) -> None:
    path, locks = some_sweep(tmp_path)

    async def look() -> None:
        app = MmkdApp(runs_dir=tmp_path, open_run=path)
        async with app.run_test(size=(60, 16)) as pilot:
            await until(pilot, lambda: "looking" not in text(app))
            (row,) = (line for line in text(app).splitlines() if "98.15" in line and "Best" not in line)
            assert "lr=0.05" in row
            assert "96.95" in row

    run(look())
    for lock in locks:
        lock.release()


def test_the_bar_shares_its_cells_out() -> None:
    assert bar({"done": 1, "at work": 1, "queue": 2}, 8, False) == "██▒▒····"
    assert bar({"done": 1, "queue": 2}, 10, True) == "###......."
    assert len(bar({"done": 7, "failed": 3, "held": 1}, 37, True)) == 37
    assert bar({}, 10, True) == ""
