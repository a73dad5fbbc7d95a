"""A run on several processes of this machine: one is lost, it is stopped, and others go on with it.

pytest -m slow tests/engine/test_run_on_ranks.py
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.hosts import Watched, no_process_left, wait_until
from support.presets import ON_CPU, tiny

from engine import Preset, Run
from engine.events import EpochEnded, Event, Log
from engine.launched import launched
from engine.preset_yaml import dump_preset, load_preset
from engine.run_dir import RunDir, take_over
from engine.run_state import RunState
from engine.shipping.evaluate import teachers_of
from engine.shipping.opening import open_run
from engine.spawning import respawn, start_host
from engine.teachers.store import TeacherStore

HOME = Path(__file__).parents[2]
ASKED = ("train.epochs=16", "evaluate.student_alone=false", "hardware.threads=1", "checkpoints.every=0", ON_CPU)
PRESET = tiny(*ASKED)


SECOND_HAS_NO_DEVICE = """
import os
import engine
from engine.errors import UserError
if os.environ.get("RANK") == "1":
    import engine.run
    def none_here(*_): raise UserError("its device is gone; look for it")
    engine.run.resolve_device = none_here
engine.register_architecture("unused", lambda channels, classes: None)
"""


class Launch:
    """A run of two processes in a folder, the store beside it."""

    def __init__(self, folder: Path, store: Path, preset: Preset = PRESET) -> None:
        self.dir, self.store = RunDir(folder), store
        folder.mkdir()
        self.dir.preset.write_text(dump_preset(preset))

    @contextmanager
    def started(self, *options: str, restarts: int = 0) -> Iterator[tuple[subprocess.Popen[bytes], Watched]]:
        environment = {"MMKD_TEACHERS": str(self.store), "OMP_NUM_THREADS": "1"}
        host = start_host(self.dir, None, None, options, environment, processes=2, restarts=restarts)
        try:
            yield host, Watched(self.dir.path)
        finally:
            with suppress(ProcessLookupError):
                host.kill()
            for rank in (0, 1):
                for pid in pids(host, rank):
                    os.kill(pid, signal.SIGKILL)

    def finished(self) -> None:
        """Runs it to its end."""
        with self.started() as (host, run):
            wait_until(lambda: host.poll() is not None, "the end")
            assert (host.returncode, run.client.state()) == (0, RunState.FINISHED), run.client.console_tail()

    def student(self) -> dict[str, torch.Tensor]:
        return load_file(self.dir.student)


def pids(host: subprocess.Popen[bytes], rank: int) -> list[int]:
    """The process of that rank, where there is one now."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            environment = (path / "environ").read_bytes().split(b"\0")
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == host.pid and f"RANK={rank}".encode() in environment:
                found.append(int(path.name))
    return found


def epochs(run: Watched) -> dict[int, EpochEnded]:
    """Of the distillation, as they were told last; without the time."""
    run.seen(lambda event: False)
    ended = [event for event in run.events if isinstance(event, EpochEnded) and event.phase == "distil"]
    return {event.epoch: replace(event, t=0.0) for event in ended}


def numbers(content: object) -> Iterator[float]:
    """All that there are in an event, in their order."""
    if isinstance(content, dict):
        content = content.values()
    if isinstance(content, int | float):
        yield content
    elif isinstance(content, Iterable) and not isinstance(content, str):
        for part in content:
            yield from numbers(part)


def begun(epoch: int) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, EpochEnded) and event.phase == "distil" and event.epoch >= epoch


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Launch:
    launch = Launch(tmp_path_factory.mktemp("runs") / "unbroken", store)
    launch.finished()
    return launch


@pytest.mark.slow
def test_a_run_that_loses_a_process_is_started_again_and_comes_where_it_would_have_come(
    unbroken: Launch, store: Path, tmp_path: Path
) -> None:
    launch = Launch(tmp_path / "run", store)
    with launch.started(restarts=1) as (host, run):
        run.wait_for(begun(3), "a few epochs")
        (lost,) = pids(host, 1)
        os.kill(lost, signal.SIGKILL)
        wait_until(lambda: host.poll() is not None, "the end")
        assert (host.returncode, run.client.state()) == (0, RunState.FINISHED), run.client.console_tail()
        found, expected = epochs(run), epochs(Watched(unbroken.dir.path))
        assert list(found) == list(expected) == list(range(16))
        for epoch, event in found.items():
            # To rounding: a checkpoint within an epoch has the ranks' averages so far as one sum.
            assert list(numbers(asdict(event))) == pytest.approx(list(numbers(asdict(expected[epoch]))), rel=1e-9, nan_ok=True)
        said = [event.message for event in run.events if isinstance(event, Log)]
        assert any("goes on from checkpoints/distil-0-step-" in message for message in said)
    student = unbroken.student()
    assert all(torch.equal(value, student[name]) for name, value in launch.student().items())


@pytest.mark.slow
def test_a_run_on_two_processes_that_was_stopped_goes_on_with_one(store: Path, tmp_path: Path) -> None:
    launch = Launch(tmp_path / "run", store)
    with launch.started(restarts=1) as (host, run):
        run.wait_for(begun(1), "an epoch")
        host.send_signal(signal.SIGTERM)
        wait_until(lambda: host.poll() is not None, "the end")
        assert run.client.state() is RunState.STOPPED, run.client.console_tail()
    before = epochs(run)
    lock = take_over(launch.dir)
    result = Run(load_preset(launch.dir.preset), launch.dir.path, store=store, lock=lock, resume=True).execute()
    assert result.state == "done", result.message
    after = epochs(again := Watched(launch.dir.path))
    told = [event.message for event in again.events if isinstance(event, Log) and event.level == "warning"]
    assert any("32 images a step instead of 64" in message and "--gpus 2" in message for message in told), told
    assert sorted(after) == list(range(16))
    assert {epoch: after[epoch] for epoch in before} == before
    assert (before[0].step, after[15].step) == (2, 16 * 5)  # of 160 images in batches of 2 x 32 and of 32


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_as_many_processes_to_the_same_bits(
    store: Path, tmp_path: Path, unbroken: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMKD_TEACHERS", str(store))
    launch = Launch(tmp_path / "run", store)
    with launch.started(restarts=1) as (host, run), no_process_left(tmp_path):
        run.wait_for(begun(3), "a few epochs")
        run.client.request("stop")
        run.wait_for_state(RunState.STOPPED)
        respawn(launch.dir.path)  # while the launcher of before is still there
        wait_until(lambda: host.poll() is not None, "the end of the first launcher")
        assert host.returncode == 0, run.client.console_tail()  # what is stopped on request is not started again
        wait_until(lambda: not run.client.state().live, "the end")
        assert run.client.state() is RunState.FINISHED, run.client.console_tail()
    student = unbroken.student()
    assert all(torch.equal(value, student[name]) for name, value in launch.student().items())


@pytest.mark.slow
def test_a_run_without_its_launcher_stops_and_saves(store: Path, tmp_path: Path) -> None:
    endless = tiny("train.epochs=100000", "evaluate.student_alone=false", "hardware.threads=1", ON_CPU)
    launch = Launch(tmp_path / "run", store, endless)
    with launch.started() as (host, run):
        run.wait_for(begun(1), "an epoch")
        ranks = [pid for rank in (0, 1) for pid in pids(host, rank)]
        assert len(ranks) == 2
        host.kill()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in ranks), "the end of its processes")
        assert run.client.state() is RunState.STOPPED
        assert list(launch.dir.checkpoints.glob("distil-0-step-*"))


@pytest.mark.slow
def test_who_judges_the_run_finds_its_teachers(store: Path, unbroken: Launch) -> None:
    model, preset = open_run(unbroken.dir.path)
    teachers = teachers_of(unbroken.dir.path, preset, model.facts, TeacherStore(store))
    assert [name for name, teacher in teachers if isinstance(teacher, str)] == []


@pytest.mark.slow
def test_processes_share_their_teachers(store: Path, tmp_path: Path, unbroken: Launch) -> None:
    launch = Launch(tmp_path / "run", store, tiny(*ASKED, "hardware.teachers=sharded"))
    launch.finished()
    measured, alone = (json.loads(one.dir.result.read_text())["teachers"] for one in (launch, unbroken))
    assert [teacher["accuracy"] for teacher in measured] == pytest.approx([teacher["accuracy"] for teacher in alone], abs=0.002)
    found, expected = (epochs(Watched(one.dir.path)) for one in (launch, unbroken))
    assert len(found) == 16
    # To rounding, which a training makes larger: the first epoch has the same teachers or has not.
    assert found[0].loss == pytest.approx(expected[0].loss, rel=1e-3)
    assert found[0].logit_weights == pytest.approx(expected[0].logit_weights, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_the_command_for_several_gpus_stops_on_a_signal_and_says_so(number: int, store: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(dump_preset(tiny(*ASKED, "train.epochs=100000")))
    command = [sys.executable, "-m", "mmkd_tui", "run", "tiny.yaml", "--gpus", "2", "--json"]
    environment = dict(os.environ) | {"MMKD_TEACHERS": str(store), "OMP_NUM_THREADS": "1"}
    done = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: list(tmp_path.glob("runs/*/events.jsonl")), "the run")
        (events,) = tmp_path.glob("runs/*/events.jsonl")
        Watched(events.parent).wait_for(begun(1), "an epoch")
        done.send_signal(number)
        out, told = done.communicate(timeout=60)
    finally:
        done.kill()
    assert done.returncode == 128 + number, told
    assert json.loads(out)["state"] == "stopped"
    assert "goes on with it" in told


@pytest.mark.slow
def test_a_mistake_that_another_process_than_the_first_meets_is_told_once_as_one(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(dump_preset(PRESET))
    (tmp_path / "plugin.py").write_text(SECOND_HAS_NO_DEVICE)
    options = "--gpus 2 --max-restarts 2 --plugin plugin.py"
    command = [sys.executable, "-m", "mmkd_tui", "run", "tiny.yaml", *options.split()]
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
    (folder,) = (tmp_path / "runs").iterdir()
    console = (folder / "console.log").read_text()
    assert (done.returncode, done.stderr) == (2, "mmkd: process 2 of 2: its device is gone; look for it\n"), console
    assert json.loads((folder / "result.json").read_text())["mistake"]
    assert json.loads((folder / "meta.json").read_text())["processes"] == 2  # so many are to go on when it is mended
    assert console.count("its device is gone") == 1, console


def test_what_is_no_launcher_is_not_taken_for_one() -> None:
    assert launched({"RANK": "1", "WORLD_SIZE": "2"}) is None
    found = launched({"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
    assert found is not None
    assert (found.rank, found.size, found.local, found.here, found.restarts) == (1, 4, 1, 2, 0)
