"""Going on with a run of several processes: by how many, and when the launcher of before is still there."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from support.presets import tiny

from engine.errors import UserError
from engine.gpu_lock import GpuBusyError, GpuLock
from engine.preset_yaml import dump_preset
from engine.run_dir import Lock, RunDir
from engine.run_state import RunState, StateReader
from engine.spawning import respawn
from engine.untrusted import is_file_of

Started = list[tuple[int, bool]]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """How many processes were started, and whether their launcher's lock was handed on; none are."""
    found: Started = []

    def start_host(run_dir: RunDir, lock: Lock | None, *_: object, processes: int = 1) -> None:
        found.append((processes, lock is not None and is_file_of(lock.handle, run_dir.launcher)))

    monkeypatch.setattr("engine.spawning.start_host", start_host)
    return found


def stopped(folder: Path, **meta: Any) -> RunDir:
    run_dir = RunDir(folder / "run")
    run_dir.path.mkdir()
    run_dir.preset.write_text(dump_preset(tiny("hardware.device=auto")))
    run_dir.meta.write_text(json.dumps(meta))
    run_dir.result.write_text('{"state": "stopped"}')
    return run_dir


@pytest.mark.parametrize(
    ("meta", "asked", "processes"),
    [
        ({"ranks": 2, "processes": 4}, None, 4),  # begun by two
        ({"ranks": 2}, None, 2),  # of an older release
        ({}, None, 1),
        ({"processes": "many"}, None, 1),
        ({"processes": -3}, None, 1),
        ({"processes": 4}, 1, 1),
        ({"processes": 4000}, 8, 8),
    ],
)
def test_as_many_processes_as_before_go_on_unless_asked_otherwise(
    meta: dict[str, Any], asked: int | None, processes: int, tmp_path: Path, started: Started
) -> None:
    respawn(stopped(tmp_path, **meta).path, processes=asked)
    assert started == [(processes, processes > 1)]


def test_more_processes_than_a_machine_can_have_must_be_asked_for(tmp_path: Path, started: Started) -> None:
    run_dir = stopped(tmp_path, processes=4000)
    with pytest.raises(UserError, match=r"4000 processes.*--gpus N"):
        respawn(run_dir.path)
    assert started == []
    assert run_dir.result.exists()


def test_the_launcher_of_a_run_that_has_ended_is_waited_for(tmp_path: Path, started: Started) -> None:
    run_dir = stopped(tmp_path, processes=2)
    before = Lock(run_dir, of_launcher=True)
    later = threading.Timer(1.0, before.release)
    later.start()
    respawn(run_dir.path)
    later.join()
    assert started == [(2, True)]


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_whose_launcher_stays_is_left_as_it_is(
    ended: bool, processes: int, tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has not ended may be started again by it at any moment."""
    monkeypatch.setattr("engine.spawning.PATIENCE", 0.2)
    run_dir = stopped(tmp_path)
    if not ended:
        run_dir.result.unlink()
    held = Lock(run_dir, of_launcher=True)
    with pytest.raises(UserError, match="in use by another process"):
        respawn(run_dir.path, processes=processes)
    assert started == []
    assert StateReader(run_dir).read() is (RunState.STOPPED if ended else RunState.STARTING)
    held.release()


def test_every_gpu_that_a_run_will_have_must_be_free(tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    run_dir = stopped(tmp_path, processes=2)
    held = GpuLock.take("1", tmp_path / "another")
    with pytest.raises(GpuBusyError, match=r"GPU 1 is in use by .*/another"):
        respawn(run_dir.path)
    respawn(run_dir.path, processes=1)
    assert started == [(1, False)]
    held.release()
