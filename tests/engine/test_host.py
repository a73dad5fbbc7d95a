"""The process that owns a run: detached, told what to do through files, and told apart from a dead one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hosts import Watched, no_process_left, wait_until
from support.presets import tiny

from engine.errors import UserError
from engine.events import Acknowledged, CheckpointSaved, Event, Metrics, RunStarted
from engine.paths import write_whole
from engine.preset_yaml import dump_preset
from engine.run_client import DirectoryClient
from engine.run_dir import Lock, RunDir
from engine.run_state import RunState
from engine.spawning import respawn, spawn

ROOT = Path(__file__).parents[2]
ENDLESS = ("train.epochs=100000", "evaluate.student_alone=false")


def training(event: Event) -> bool:
    return isinstance(event, Metrics) and event.phase == "distil"


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    with no_process_left(tmp_path / "runs"):
        yield tmp_path / "runs"


def test_a_detached_host_outlives_the_process_that_started_it(runs: Path) -> None:
    """The parent ends at once; its child has its own session, and nobody ever sees the run as dead."""
    code = f"""
import sys
import threading
import time
sys.path.insert(0, {str(ROOT / "tests")!r})
from pathlib import Path
from support.presets import tiny
from engine.spawning import spawn
print(spawn(tiny("train.epochs=1", "evaluate.student_alone=false"), Path({str(runs)!r})))
"""
    # A folder called `engine` where the user is must not be taken for ours.
    (runs.parent / "engine").mkdir()
    (runs.parent / "engine" / "host.py").write_text("raise SystemExit(7)")
    parent = subprocess.run([sys.executable, "-c", code], cwd=runs.parent, capture_output=True, text=True, check=True)
    watched = Watched(Path(parent.stdout.strip()))
    states: list[RunState] = []

    def ended() -> bool:
        state = watched.client.state()
        if state not in states:
            states.append(state)
        if state is RunState.RUNNING and len(states) == 2:
            assert os.getsid(watched.pid) == watched.pid != os.getsid(0)
        return not state.live

    wait_until(ended, "the end")
    assert states == [RunState.STARTING, RunState.RUNNING, RunState.FINISHED], watched.client.console_tail()
    result = watched.client.result()
    assert result is not None
    assert 0 < result["student_accuracy"] <= 1
    with pytest.raises(UserError, match="finished"):
        respawn(watched.path)


def test_files_steer_it_and_lock_and_heartbeat_tell_how_it_is(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from engine.host import main

    watched = Watched(spawn(tiny(*ENDLESS), runs))
    client = watched.client
    with pytest.raises(UserError, match="in use"):
        Lock(RunDir(watched.path))
    assert main([str(watched.path)]) == 2  # a second host
    assert main(["--resume", str(watched.path)]) == 2
    assert capsys.readouterr().err.count("in use") == 2
    assert client.result() is None

    watched.wait_for(training, "training")
    for command in ("pause", "checkpoint", "resume"):
        id = client.request(command)
        watched.wait_for(lambda e, id=id: isinstance(e, Acknowledged) and e.id == id, command)
        if command == "pause":
            watched.wait_for_state(RunState.PAUSED)
    saved = [event.path for event in watched.events if isinstance(event, CheckpointSaved)]
    assert len(saved) == 1
    assert (watched.path / saved[0] / "manifest.json").exists()
    watched.wait_for_state(RunState.RUNNING)

    pid = watched.pid
    os.kill(pid, signal.SIGHUP)  # changes nothing
    impatient = DirectoryClient(watched.path, patience=1.5)
    assert impatient.state() is RunState.RUNNING
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: impatient.state() is RunState.NOT_RESPONDING, "silence", 10)
    assert client.state() is RunState.RUNNING  # its 30 s are not over
    os.kill(pid, signal.SIGCONT)
    wait_until(lambda: impatient.state() is RunState.RUNNING, "a sign of life", 10)

    watched.kill()
    watched.wait_for_state(RunState.CRASHED, seconds=2)


def at_work(runs: Path) -> tuple[subprocess.Popen[bytes], RunDir, Watched]:
    """A host of our own whose run is training."""
    run_dir = RunDir(runs / "mine")
    run_dir.path.mkdir(parents=True)
    write_whole(run_dir.preset, dump_preset(tiny(*ENDLESS)))
    process = subprocess.Popen([sys.executable, "-m", "engine.host", str(run_dir.path)], cwd=ROOT)
    watched = Watched(run_dir.path)
    wait_until(lambda: watched.seen(training), "training")
    return process, run_dir, watched


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2], ids=lambda number: number.name)
def test_a_signal_to_stop_saves_a_checkpoint_and_is_told_by_the_exit_code(number: signal.Signals, runs: Path) -> None:
    process, run_dir, watched = at_work(runs)
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    assert watched.client.state() is RunState.STOPPED
    assert len(list(run_dir.checkpoints.iterdir())) == 1
    assert run_dir.student.exists()


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_the_same_request_twice_saves_a_checkpoint_all_the_same(second: signal.Signals, runs: Path) -> None:
    """Where a session or a control group is ended, the system tells a run, and then the process that started it does."""
    process, run_dir, watched = at_work(runs)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.01)  # two that wait together would be taken in the order of their numbers, or be one
    process.send_signal(second)
    assert process.wait(30) == 143
    assert watched.client.state() is RunState.STOPPED
    assert len(list(run_dir.checkpoints.iterdir())) == 1


@pytest.mark.parametrize(
    "delay", [0.0, pytest.param(0.3, marks=pytest.mark.slow), 1.0]
)  # at once, while Python starts, while PyTorch is loaded
def test_a_run_that_is_ended_before_it_began_was_stopped_and_can_go_on(delay: float, runs: Path) -> None:
    watched = Watched(spawn(tiny("train.epochs=1", "evaluate.student_alone=false"), runs))
    found: list[int] = []
    wait_until(lambda: found.extend(int(pid) for pid in children() if str(watched.path) in command_of(pid)) or found, "it")
    time.sleep(delay)
    os.kill(found[0], signal.SIGTERM)
    watched.wait_for_state(RunState.STOPPED)
    respawn(watched.path)
    watched.wait_for_state(RunState.FINISHED)


def test_a_signal_is_minded_even_where_what_is_being_loaded_swallows_exceptions(tmp_path: Path) -> None:
    """As compiled parts of libraries do: an exception out of a signal handler would be lost in them."""
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGTERM)\n    len('')\nexcept BaseException: pass\n"
    )
    run_dir = RunDir(tmp_path / "run")
    run_dir.path.mkdir()
    write_whole(run_dir.preset, dump_preset(tiny(*ENDLESS)))
    command = [sys.executable, "-m", "engine.host", str(run_dir.path), "--plugin", str(plugin)]
    assert subprocess.run(command, cwd=ROOT, timeout=120, check=False).returncode == 143
    assert DirectoryClient(run_dir.path).state() is RunState.STOPPED
    assert not run_dir.events.exists()
    Lock(run_dir).release()


def children() -> list[str]:
    return Path("/proc/self/task", str(threading.get_native_id()), "children").read_text().split()


def command_of(pid: str) -> str:
    return Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_what_keeps_a_run_from_beginning_is_told_in_its_folder(runs: Path, tmp_path: Path) -> None:
    from engine.host import main

    broken = RunDir(tmp_path / "broken")
    broken.path.mkdir()
    broken.preset.write_text("name: broken\n")
    path = spawn(tiny("train.batch_size=161", "method.meta.buffer_size=200"), runs)
    assert main([str(broken.path)]) == 2
    assert DirectoryClient(broken.path).state() is RunState.FAILED
    watched = Watched(path)
    watched.wait_for_state(RunState.FAILED)
    result = watched.client.result()
    assert result is not None
    assert "160 training images" in result["message"]
    assert result["mistake"]
    wait_until(lambda: any("160 training images" in line for line in watched.client.console_tail()), "the console")
    assert not watched.seen(lambda event: isinstance(event, RunStarted))


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("result", "code"),
    [({"state": "failed", "mistake": True}, 2), ({"state": "failed", "mistake": False}, 1), ({"state": "done"}, 0)],
)
def test_of_several_processes_only_lost_ones_are_tried_again(
    result: dict[str, object], code: int, rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.host import main

    place = {"TORCHELASTIC_RUN_ID": "x", "RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "TORCHELASTIC_RESTART_COUNT": 1}
    for name, value in place.items():
        monkeypatch.setenv(name, str(value))
    run_dir = RunDir(tmp_path)
    run_dir.preset.write_text(dump_preset(tiny()))
    run_dir.result.write_text(json.dumps(result))
    before = {path.name for path in tmp_path.iterdir()}
    assert main([str(tmp_path)]) == code
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("begun", [False, True])
def test_relative_paths_of_a_preset_that_a_person_put_into_a_folder_are_of_that_folder(
    begun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.host import main

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run_dir = RunDir(tmp_path / "big")
    run_dir.path.mkdir()
    (run_dir.path / "linked").symlink_to(tmp_path)
    path = str(run_dir.path / "linked" / "pics") if begun else "pics"
    run_dir.preset.write_text(dump_preset(tiny("dataset={name: imagefolder, size: 32}", f"dataset.path={path}")))
    if begun:  # its preset is what its checkpoints were made with, to the letter
        run_dir.events.touch()
    assert main([*["--resume"] * begun, "../big"]) == 2
    message = str((DirectoryClient(run_dir.path).result() or {})["message"])
    assert f"there is no folder {path if begun else run_dir.path / 'pics'};" in message


def test_a_finished_run_is_not_written_over(tmp_path: Path) -> None:
    from engine.host import main

    run_dir = RunDir(tmp_path / "done")
    run_dir.path.mkdir()
    run_dir.preset.write_text(dump_preset(tiny()))
    run_dir.events.write_text("{}\n")
    run_dir.result.write_text(json.dumps({"state": "done"}))
    for options in ([], ["--resume"]):
        assert main([*options, str(run_dir.path)]) == 2
    assert json.loads(run_dir.result.read_text()) == {"state": "done"}
    assert main([str(tmp_path / "nowhere")]) == 2
