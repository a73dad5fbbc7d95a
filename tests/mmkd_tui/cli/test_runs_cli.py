"""`mmkd runs`, `pause`, `resume`, `stop`, `checkpoint`, `attach` and `tui` as a user types them."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hosts import Watched, no_process_left
from support.presets import tiny

from engine.events import Acknowledged, Metrics, RunStarted, to_line
from engine.paths import HOUR
from engine.preset_yaml import dump_preset
from engine.run_dir import Lock, RunDir
from engine.run_state import RunState
from engine.spawning import spawn
from mmkd_tui.cli.control import _to_resume
from mmkd_tui.cli.main import run_command

Capture = pytest.CaptureFixture[str]
EVIL = "[/red]x\x1b[2J"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    with no_process_left(tmp_path / "runs"):
        yield tmp_path / "runs"


def make_run(runs: Path, name: str, state: str | None = None, **result: object) -> RunDir:
    run = RunDir(runs / name)
    run.path.mkdir(parents=True)
    run.preset.write_text(dump_preset(tiny()))
    run.console.write_text(f"a line\n{EVIL}\n")
    started = RunStarted(
        name=EVIL, run_dir="", dataset="digits", classes=(), teachers=(), student="resnet8", method="mmkd", device="cpu", seed=0
    )
    run.events.write_text(to_line(started))
    if state is not None:
        run.result.write_text(json.dumps({"state": state, "message": EVIL, **result}))
    return run


def test_a_live_run_is_steered_stopped_resumed_and_removed(runs: Path, capfd: Capture) -> None:
    def said(*arguments: str, code: int = 0) -> str:
        assert run_command(list(arguments)) == code
        out, err = capfd.readouterr()
        return out + err

    path = spawn(tiny("train.epochs=100000", "evaluate.student_alone=false"), Path("runs"))
    assert path.is_absolute()
    watched = Watched(path)
    watched.wait_for(lambda event: isinstance(event, Metrics) and event.phase == "distil", "training")
    name = path.name
    assert "not paused" in said("resume")
    assert f"{name}: paused" in said("pause")
    assert "saved checkpoints/distil-0-step-" in said("checkpoint", "tiny")
    watched.wait_for_state(RunState.PAUSED)
    assert "paused" in said("runs", "list")
    assert "goes on" in said("resume", name)
    assert "is live" in said("runs", "rm", name, "--yes", code=2)
    assert "asked to stop" in said("stop", "--no-wait")
    watched.wait_for_state(RunState.STOPPED)
    assert "mmkd resume" in said("pause", name, code=2)
    before = (path / "preset.yaml").read_text()
    assert "train.lr was 0.05 and is 1.0" in said("resume", "--set", "train.lr=1.0", code=2)
    assert "did you mean 'epochs'" in said("resume", "--set", "train.epoch=1", code=2)
    assert (path / "preset.yaml").read_text() == before
    assert watched.client.state() is RunState.STOPPED  # a refusal costs nothing
    text = said("resume", "--set", "checkpoints.keep=3")
    assert "keep: 3" in (path / "preset.yaml").read_text()
    assert f"{name} was stopped; it goes on in the background, from its newest checkpoint" in text
    assert f"mmkd attach {name}" in text
    watched.wait_for(lambda event: isinstance(event, RunStarted) and event.resumed, "the new process")
    assert "can be changed when it is stopped" in said("resume", "--set", "checkpoints.keep=1", code=2)
    text = said("stop")
    # It may not have come to a step yet.
    assert re.search(r"stopped; (saved checkpoints/distil-0-step-\d+|there was nothing new to save); mmkd resume", text)
    shown = json.loads(said("runs", "show", "--json"))
    assert shown["state"] == "stopped"
    assert shown["preset"]["name"] == "tiny"
    assert shown["result"]["state"] == "stopped"
    watched.wait_for_state(RunState.STOPPED)
    assert f"removed {name}" in said("runs", "rm", name, "--yes")
    assert list(runs.iterdir()) == []


def test_only_a_folder_that_is_not_there_has_no_runs_yet(tmp_path: Path, capfd: Capture) -> None:
    assert run_command(["runs", "list", "--runs-dir", str(tmp_path / "later")]) == 0
    assert "no runs in" in capfd.readouterr().err
    (tmp_path / "file").touch()
    for command in (["runs", "list"], ["runs", "rm", "--older-than", "1d"], ["resume"], ["runs", "show"], ["runs", "show", "x"]):
        assert run_command([*command, "--runs-dir", str(tmp_path / "file")]) == 2
        assert capfd.readouterr().err == f"mmkd: {tmp_path / 'file'} is not a folder; name another one with --runs-dir\n"


def test_list_and_show_print_nothing_that_a_terminal_obeys(runs: Path, capfd: Capture) -> None:
    make_run(runs, "one", "failed")
    make_run(runs, "two", "done", student_accuracy=0.5, method="mmkd", teachers=[{"name": EVIL, "logit_weight": 0.5}])
    for arguments in (["list"], ["list", "--json"], ["show", "one"], ["show", "two"], ["show", "two", "--json"]):
        assert run_command(["runs", *arguments]) == 0
        out, err = capfd.readouterr()
        assert out
        assert "\x1b" not in out + err
    assert run_command(["runs", "list", "--json"]) == 0
    listed = {Path(run["path"]).name: run for run in json.loads(capfd.readouterr().out)}
    assert listed["two"]["student_accuracy"] == 0.5
    assert listed["one"]["state"] == "failed"


def test_rm_asks_in_a_terminal_and_leaves_what_is_not_in_the_folder(runs: Path, capfd: Capture) -> None:
    run = make_run(runs, "one", "done")
    assert run_command(["runs", "rm", "one"]) == 2
    assert "--yes" in capfd.readouterr().err
    elsewhere = make_run(runs.parent / "elsewhere", "two", "done")
    assert run_command(["runs", "rm", str(elsewhere.path), "--yes"]) == 2
    assert elsewhere.path.exists()
    for answer, left in ((b"n\n", True), (b"y\n", False)):
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(sys.executable, [sys.executable, "-m", "mmkd_tui", "runs", "rm", "one"])
        seen = b""
        while b"[y/N]" not in seen:
            seen += os.read(terminal, 4096)
        assert b" MB" in seen
        os.write(terminal, answer)
        os.waitpid(pid, 0)
        os.close(terminal)
        assert run.path.exists() == left


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["pause"], "no live run"),
        (["stop", "one"], "not live: it is finished"),
        (["resume", "one"], "finished"),
        (["resume"], "no run to resume"),
        (["resume", "none"], "no run 'none'"),
        (["runs", "show", "none"], "no run 'none'"),
        (["runs", "rm", "none", "--yes"], "no run 'none'"),
        (["attach"], "no live run"),
        (["attach", "one"], "mmkd runs show"),
        (["tui"], "needs a terminal"),
    ],
)
def test_mistakes_are_one_clear_line(runs: Path, arguments: list[str], fragment: str, capfd: Capture) -> None:
    make_run(runs, "one", "done")
    assert run_command(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert fragment in err


def test_without_a_name_resume_takes_what_its_help_says(runs: Path, capfd: Capture) -> None:
    locks = []
    for name, paused in (("paused", True), ("running", False), ("stopped", None)):  # the newest last
        run = make_run(runs, name, None if paused is not None else "stopped")
        if paused is not None:
            locks.append(Lock(run))
            run.heartbeat.write_text(json.dumps({"t": time.time(), "paused": paused}))
    assert run_command(["resume", "--no-wait"]) == 0
    assert "paused is asked to resume" in capfd.readouterr().err
    (runs / "paused" / "heartbeat.json").write_text(json.dumps({"t": time.time()}))
    assert run_command(["resume", "--no-wait"]) == 0
    assert "running is not paused" in capfd.readouterr().err
    for lock in locks:
        lock.release()
    assert _to_resume(runs, None).name == "stopped"


def test_a_run_that_does_not_answer_is_told_so(runs: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmkd_tui.cli.control.WAIT", 0.3)
    run = make_run(runs, "silent")
    lock = Lock(run)
    run.heartbeat.write_text(json.dumps({"t": 0}))
    assert run_command(["stop"]) == 1
    assert "has not answered" in capfd.readouterr().err
    wish = json.loads(run.control.read_text())
    run.events.write_text(to_line(Acknowledged(id=wish["id"], command="stop")))
    lock.release()
    assert run_command(["stop"]) == 2


def test_no_torch_for_looking_and_steering(runs: Path) -> None:
    make_run(runs, "one", "done")
    code = """
import sys
from mmkd_tui.cli.main import run_command
for arguments in (["runs", "list"], ["runs", "show", "one"], ["pause"], ["attach", "one"]):
    run_command(arguments)
assert not {"torch", "numpy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdin=subprocess.DEVNULL, capture_output=True)


def aged(run: RunDir, days: float) -> None:
    then = time.time() - days * 86_400
    for path in run.path.iterdir():
        os.utime(path, (then, then))


def test_old_runs_are_removed_but_for_the_best_and_the_live(runs: Path, capfd: Capture) -> None:
    ages = {"best": 90, "worse": 80, "stopped": 70, "crashed": 60, "recent": 5, "live": 50}
    accuracies = {"best": 0.98, "worse": 0.97, "recent": 0.96}
    for name, days in ages.items():
        state = {"stopped": "stopped", "crashed": None, "live": None}.get(name, "done")
        run = make_run(runs, name, state, student_accuracy=accuracies.get(name))
        if name == "live":
            held = Lock(run)
        aged(run, days)
    assert run_command(["runs", "rm", "--older-than", "30d", "--keep-best", "--yes"]) == 0
    held.release()
    err = capfd.readouterr().err
    assert {path.name for path in runs.iterdir()} == {"best", "recent", "live"}
    assert [line.split()[1] for line in err.splitlines()[:-1]] == ["worse", "stopped", "crashed"]
    assert err.splitlines()[-1].startswith("3 runs, ")
    assert run_command(["runs", "rm", "--older-than", "30d", "--keep-best", "--yes"]) == 0  # the lock is free now: crashed
    assert {path.name for path in runs.iterdir()} == {"best", "recent"}
    assert run_command(["runs", "rm", "--older-than", "1w", "--yes"]) == 0
    assert {path.name for path in runs.iterdir()} == {"recent"}


def test_what_an_interrupted_rm_left_goes_with_the_next(runs: Path) -> None:
    make_run(runs, "one", "done")
    left = runs / ".other.123.removed"
    left.mkdir()
    os.utime(left, (time.time() - 2 * HOUR,) * 2)
    assert run_command(["runs", "rm", "one", "--yes"]) == 0
    assert list(runs.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name runs, or say how old"),
        (["a", "--older-than", "3d"], "not both"),
        (["--older-than", "3 months"], "'3 months', which is no age; give hours, days or weeks: 12h, 30d, 8w"),
        (["a", "--keep-best"], "--keep-best goes with --older-than"),
    ],
)
def test_what_is_to_be_removed_must_be_clear(runs: Path, capfd: Capture, arguments: list[str], words: str) -> None:
    run = make_run(runs, "a", "done")
    assert run_command(["runs", "rm", *arguments, "--yes"]) == 2
    assert words in capfd.readouterr().err
    assert run.path.is_dir()


def test_nobody_is_asked_where_there_is_no_terminal(runs: Path, capfd: Capture) -> None:
    run = make_run(runs, "a", "done")
    aged(run, 3)
    assert run_command(["runs", "rm", "--older-than", "1d"]) == 2
    assert "--yes" in capfd.readouterr().err
    assert run.path.is_dir()


def lost(runs: Path, name: str) -> RunDir:
    """A run whose container is gone: its lock names another machine, and its last sign of life is old."""
    run, old = make_run(runs, name), time.time() - 300
    run.lock.write_text(f"4f1d{EVIL}")
    run.heartbeat.write_text(json.dumps({"t": old, "phase": "distil"}))
    os.utime(run.heartbeat, (old, old))
    return run


def test_a_run_whose_machine_is_gone_is_taken_over_by_wish(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked: list[tuple[str, bool]] = []
    monkeypatch.setattr("engine.spawning.respawn", lambda path, *, force, **other: asked.append((path.name, force)))
    run = lost(tmp_path / "runs", "one")
    assert run_command(["resume", "one"]) == 2
    told = capfd.readouterr().err
    assert "4f1d" in told
    assert "gone for good" in told
    assert "mmkd resume one --force" in told
    assert "\x1b" not in told
    assert not run.control.exists()  # nobody would read it
    assert run_command(["runs", "rm", "one", "--yes"]) == 2
    assert "mmkd resume one --force takes it over" in capfd.readouterr().err
    assert asked == []
    assert run_command(["resume", "one", "--force"]) == 0
    assert "goes on in the background" in capfd.readouterr().err
    assert asked == [("one", True)]


def test_force_takes_no_run_from_a_process_whose_lock_can_be_seen(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = lost(tmp_path / "runs", "one")
    with run.lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert run_command(["resume", "one", "--force"]) == 2
    assert "in use by another process" in capfd.readouterr().err
    assert run.heartbeat.exists()
