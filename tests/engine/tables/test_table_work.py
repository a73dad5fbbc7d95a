"""Runs of a table that another process has: waited for as long as they give signs of life."""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.presets import tiny

from engine.run_client import DirectoryClient
from engine.run_dir import Lock, RunDir
from engine.run_state import RunState
from engine.sweeps import local
from engine.sweeps.executor import Job, write_down
from engine.tables import work
from engine.tables.plan import PlannedRun


@pytest.fixture
def run(tmp_path: Path) -> PlannedRun:
    """One that was begun."""
    preset, folder = tiny("teachers=[]", "method={name: ce}"), tmp_path / "run"
    write_down(Job(folder, preset))
    (folder / "events.jsonl").touch()
    (folder / "heartbeat.json").write_text(json.dumps({"t": time.time()}))
    return PlannedRun("No teacher", 0, preset, folder)


@pytest.fixture
def at_work(run: PlannedRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlannedRun]:
    """Its process has it, and hangs."""
    monkeypatch.setattr(work, "DirectoryClient", functools.partial(DirectoryClient, patience=0.5))
    lock = Lock(RunDir(run.folder))
    yield run
    lock.release()


def test_one_that_no_longer_responds_is_not_waited_for(at_work: PlannedRun) -> None:
    ended = work.work_off(at_work, lambda events: None, lambda: False)
    assert ended.state is RunState.NOT_RESPONDING
    assert "does not respond" in ended.message


def test_one_that_another_command_begins_at_the_same_moment_is_waited_for(tmp_path: Path) -> None:
    run = PlannedRun("No teacher", 0, tiny("teachers=[]", "method={name: ce}"), tmp_path)
    lock = Lock(RunDir(run.folder))  # it was quicker; there is no preset yet by which a run is told

    def end() -> None:
        write_down(Job(run.folder, run.preset))
        (run.folder / "result.json").write_text(json.dumps({"state": "done"}))
        lock.release()

    threading.Timer(0.7, end).start()
    assert work.work_off(run, lambda events: None, lambda: False).state is RunState.FINISHED


def test_a_stop_does_not_wait_for_one_that_cannot_even_be_asked(at_work: PlannedRun) -> None:
    (at_work.folder / "control.jsonl").mkdir()  # as on a disk that takes nothing more
    assert work.work_off(at_work, lambda events: None, lambda: True).state is RunState.NOT_RESPONDING


def test_a_run_of_a_machine_that_is_gone_is_taken_over(run: PlannedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Path] = []

    def start(run_dir: RunDir, *_: Any) -> Any:
        begun.append(run_dir.path)
        raise OSError("as far as this test goes")

    monkeypatch.setattr(local, "start_host", start)
    (run.folder / "engine.lock").write_text("another-machine")
    long_ago = time.time() - 86400
    (run.folder / "heartbeat.json").write_text(json.dumps({"t": long_ago}))
    os.utime(run.folder / "heartbeat.json", (long_ago, long_ago))
    assert DirectoryClient(run.folder).state() is RunState.NOT_RESPONDING
    assert work.work_off(run, lambda events: None, lambda: False).state is RunState.FAILED
    assert begun == [run.folder]
