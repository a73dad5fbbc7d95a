"""The runs of sweeps and tables as a list: whose they are, in which order, and what is none."""

from __future__ import annotations

import os
from pathlib import Path

from support.sweeps import RUNS, some_sweep

from engine.sweeps.members import FEW, list_members


def table_run(runs: Path, table: str, age: float) -> Path:
    """A table that was done one run after the other: it has no manifest."""
    folder = runs / "tables" / table / "aver-s0"
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text("")
    os.utime(folder.parent, (age, age))
    return folder.parent


def test_runs_that_were_begun_are_listed_by_label_the_best_first(tmp_path: Path) -> None:
    path, locks = some_sweep(tmp_path)
    (members,) = list_members(tmp_path)
    assert {one.group for one in members} == {"lr-and-beta"}
    assert [one.label for one in members[:2]] == [RUNS["b"][0], RUNS["a"][0]]
    assert {one.run.path for one in members} == {path / name for name, (_, state, *_) in RUNS.items() if state != "queue"}
    for lock in locks:
        lock.release()


def test_the_newest_come_first_but_for_the_one_that_is_asked_for(tmp_path: Path) -> None:
    assert list_members(tmp_path) == []
    tables = [table_run(tmp_path, f"t{age:02}", 1e9 + age) for age in range(FEW + 5)]
    (tmp_path / "sweeps" / "empty").mkdir(parents=True)
    (tmp_path / "tables" / "notes.txt").write_text("no folder")
    newest = [f"t{age:02}" for age in reversed(range(6, FEW + 5))]  # the empty folder was the tenth that was looked at
    assert [members[0].group for members in list_members(tmp_path)] == newest
    assert [members[0].group for members in list_members(tmp_path, tables[0])] == ["t00", *newest[:-1]]
    assert [members[0].label for members in list_members(tmp_path, tmp_path)] == ["aver-s0"] * len(newest)
