"""One run at a time on a GPU, unless wished otherwise: held by real processes, freed however they end."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hosts import no_process_left
from support.presets import tiny

from engine import paths
from engine.events import Event, Log
from engine.gpu_lock import GpuBusyError, GpuLock, gpu_of, refuse_if_busy
from engine.run import Run
from engine.spawning import spawn

ROOT = Path(__file__).parents[2]
HOLD = """
import sys
from pathlib import Path
from engine.gpu_lock import GpuLock, gpu_of
held = GpuLock.take(gpu_of("cuda:0"), Path(sys.argv[1]), share="share" in sys.argv)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _all_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """And have their numbers for names, whatever this machine's user has been given."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, whose run has the first GPU."""
    with process(tmp_path / "other") as held:
        assert held.stdout is not None
        assert held.stdout.readline() == "held\n"
        yield held
        held.kill()


def process(run: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(run), *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def test_a_second_process_is_told_whose_the_gpu_is(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with process(tmp_path / "mine") as second:
        out, err = second.communicate("")
    assert out == ""
    told = err.splitlines()[-1]
    assert f"GPU 0 is in use by {tmp_path / 'other'}" in told
    assert "--force" in told
    refuse_if_busy("cuda:1")
    refuse_if_busy("cpu")
    for device in ("cuda", "cuda:0", "auto"):
        with pytest.raises(GpuBusyError):
            refuse_if_busy(device)


def test_several_processes_need_a_gpu_each(tmp_path: Path) -> None:
    held = GpuLock.take("2", tmp_path / "other")
    for device in ("cuda", "auto"):
        refuse_if_busy(device, processes=2)
        with pytest.raises(GpuBusyError, match="GPU 2"):
            refuse_if_busy(device, processes=3)
        refuse_if_busy(device, {"CUDA_VISIBLE_DEVICES": "3,4"}, processes=3)  # that there are too few is told by who counts them
    refuse_if_busy("cpu", processes=3)
    held.release()


def test_a_killed_process_holds_nothing(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    holder.kill()
    holder.wait()
    GpuLock.take("0", tmp_path / "mine").release()


def test_who_shares_by_wish_is_seen_by_the_next_when_the_first_has_ended(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    shared = GpuLock.take("0", tmp_path / "shared", share=True)
    holder.kill()
    holder.wait()
    with pytest.raises(GpuBusyError, match="shared"):
        GpuLock.take("0", tmp_path / "mine")
    shared.release()
    GpuLock.take("0", tmp_path / "mine").release()


def test_a_run_that_would_not_be_alone_is_not_begun(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    with no_process_left(runs):
        with pytest.raises(GpuBusyError):
            spawn(tiny("hardware.device=cuda:0"), runs)
        assert not runs.exists()


def test_jobs_of_slurm_that_each_call_their_gpu_the_first_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711/")
    held = GpuLock.take("0", tmp_path / "one")
    monkeypatch.setenv("SLURM_JOB_ID", "4712")
    GpuLock.take("0", tmp_path / "two").release()
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    with pytest.raises(GpuBusyError, match="one"):
        refuse_if_busy("cuda:0", {})
    held.release()


def test_a_cache_of_no_use_for_locks_stops_no_run_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MMKD_CACHE", str(tmp_path / "file" / "cache"))
    refuse_if_busy("cuda:0", {})
    monkeypatch.setattr("engine.run.gpu_of", lambda device: "0")
    preset = tiny("hardware.device=cpu", "train.epochs=1", "evaluate.student_alone=false")
    told: list[Event] = []
    run = Run(preset, tmp_path / "run")
    run.subscribe(told.append)
    assert run.execute().state == "done"
    warnings = [event.message for event in told if isinstance(event, Log) and event.level == "warning"]
    assert sum("MMKD_CACHE" in warning and "this GPU" in warning for warning in warnings) == 1, warnings


def test_a_disk_without_locks_is_no_busy_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    GpuLock.take("0", tmp_path / "before").release()
    monkeypatch.setattr("fcntl.flock", without)
    refuse_if_busy("cuda:0", {})
    for share in (False, True):
        with pytest.raises(OSError, match="No locks"):
            GpuLock.take("0", tmp_path / "one", share=share)


def test_who_looks_in_passing_is_not_taken_for_a_run(tmp_path: Path) -> None:
    GpuLock.take("0", tmp_path / "gone").release()
    (file,) = (paths.cache_dir() / "locks").glob("*/gpu0.lock")
    with file.open() as passing:
        fcntl.flock(passing, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (passing, fcntl.LOCK_UN)).start()
        GpuLock.take("0", tmp_path / "mine").release()
    assert file.read_text() == str(tmp_path / "mine")


def test_a_run_on_a_processor_takes_no_lock(tmp_path: Path) -> None:
    preset = tiny("hardware.device=cpu", "train.epochs=1", "evaluate.student_alone=false")
    assert Run(preset, tmp_path / "run").execute().state == "done"
    assert not (paths.cache_dir() / "locks").exists()


@pytest.mark.parametrize(
    ("device", "visible", "gpu"),
    [
        ("cpu", None, None),
        ("auto", None, "0"),
        ("cuda", None, "0"),
        ("cuda:3", None, "3"),
        ("cuda:1", "2,5", "5"),
        ("cuda", "GPU-8f/..", "GPU-8f"),
        ("cuda:2", "0,1", None),
        ("auto", "", None),
    ],
)
def test_a_gpu_is_known_by_the_drivers_name(device: str, visible: str | None, gpu: str | None) -> None:
    assert gpu_of(device, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == gpu
