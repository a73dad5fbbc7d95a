"""A GPU that another of the user's runs has is no failure: who wants it waits. The locks are real, what trains is a stand-in."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.presets import TINY, tiny

from engine.gpu_lock import GpuLock
from engine.run_dir import RunDir
from engine.sweeps import local
from engine.sweeps import work as work_module
from engine.sweeps.executor import Job
from engine.sweeps.local import LocalExecutor
from engine.sweeps.work import work_off
from mmkd_tui.cli.main import run_command

OTHER = Path("/somewhere/other-run")
HOST = """
import json, sys
from pathlib import Path
from engine.gpu_lock import GpuBusyError, GpuLock, gpu_of
folder, result = Path(sys.argv[1]), {"state": "done", "student_accuracy": 0.5}
try:
    (folder / "gpu").write_text(gpu_of("cuda"))
    lock = GpuLock.take(gpu_of("cuda"), folder)
except GpuBusyError as error:
    result = {"state": "failed", "mistake": True, "message": str(error)}
(folder / "result.json").write_text(json.dumps(result))
"""


@pytest.fixture
def before_each(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What happens just before the first, second, ... run begins: its process takes the GPU's lock, as a run does."""
    steps: list[Callable[[], None]] = []

    def start(run_dir: RunDir, lock: Any, root: Any, options: Any, environment: Mapping[str, str] | None = None) -> Any:
        if steps:
            steps.pop(0)()
        return subprocess.Popen([sys.executable, "-c", HOST, str(run_dir.path)], env=dict(environment or {}) | own)

    monkeypatch.setattr(local, "start_host", start)
    monkeypatch.setattr(work_module, "AGAIN", 0.0)
    own = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return steps


def jobs(folder: Path, count: int) -> list[Job]:
    preset = tiny("hardware.device=auto", "teachers=[]", "method={name: ce}")
    return [Job(folder / f"run-{seed}", preset.model_copy(update={"seed": seed})) for seed in range(count)]


def changes(given: list[Job], executor: LocalExecutor) -> list[tuple[int, str]]:
    told: list[tuple[int, str]] = []
    work_off(given, executor, tell=lambda work, change: told.append((work.number, change)))
    return told


def test_runs_go_to_the_gpus_that_nobody_else_has(before_each: list[Callable[[], None]], tmp_path: Path) -> None:
    others, given = GpuLock.take("1", OTHER), jobs(tmp_path, 3)
    told = changes(given, LocalExecutor(["0", "1"]))
    others.release()
    assert [change for _, change in told if change in ("done", "failed")] == ["done"] * 3
    assert [change for _, change in told].count("busy") == 1
    assert {(job.folder / "gpu").read_text() for job in given} == {"0"}


def test_a_run_whose_gpu_was_taken_as_it_began_has_its_turn_again(before_each: list[Callable[[], None]], tmp_path: Path) -> None:
    held: list[GpuLock] = []

    def take() -> None:
        held.append(GpuLock.take("0", OTHER))
        threading.Timer(1.0, lambda: held[0].release()).start()

    before_each.append(take)
    told = changes(jobs(tmp_path, 2), LocalExecutor(["0"]))
    assert [change for _, change in told if change in ("done", "failed")] == ["done"] * 2
    assert [change for _, change in told].count("busy") == 1


def test_a_table_waits_for_its_gpu_and_says_so_once(
    before_each: list[Callable[[], None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "table.yaml").write_text("name: some\npresets: [tiny.yaml]\nmethods: [{name: aver}]\nseeds: [0, 1, 2]\n")
    held: list[GpuLock] = []

    def take() -> None:
        held.append(GpuLock.take("0", OTHER))
        threading.Timer(2.0, lambda: held[0].release()).start()

    before_each += [lambda: None, take]
    assert run_command(["table", "table.yaml", "--device", "auto"]) == 0
    out, err = capfd.readouterr()
    assert "runs are not done" not in out
    assert err.count(f"GPU 0 is in use by {OTHER}; waiting for its end") == 1
