"""`mmkd run` as a user types it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.fashion_files import forget_system_package
from support.presets import TINY, tiny

from engine.gpu_lock import GpuLock
from engine.preset_yaml import dump_preset
from engine.result import stopped
from mmkd_tui.cli.main import run_command
from mmkd_tui.cli.run import _conclude
from mmkd_tui.progress import RunConsole

COMMAND = [sys.executable, "-m", "mmkd_tui"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a teacher store of its own and a small preset."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMKD_TEACHERS", str(tmp_path / "store"))
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


def test_json_is_all_of_stdout_and_has_the_figures(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["run", "tiny.yaml", "--json", "--seed", "3"]) == 0
    out, err = capfd.readouterr()
    result = json.loads(out)
    for name in ("student_accuracy", "student_alone_accuracy", "ensemble_accuracy"):
        assert 0 < result[name] <= 1
    assert result["seed"] == 3
    assert len(result["teachers"]) == 2
    for teacher in result["teachers"]:
        assert set(teacher) >= {"name", "accuracy", "logit_weight", "feature_weight"}
    assert result["seconds"] > 0
    assert result["images_per_second"] > 0
    assert (Path(result["run_dir"]) / "student.safetensors").is_file()
    # The table at the end names every network.
    for name in ("teacher resnet8-s0", "teacher resnet14-s1", "plain average", "student without teachers", "distilled by mmkd"):
        assert name in err
    assert list((place / "runs").iterdir()) == [place / result["run_dir"]]


def test_a_busy_gpu_is_one_line_and_nothing_is_made(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    command = ["run", "tiny.yaml", "--device", "auto"]
    held = GpuLock.take("0", place / "runs" / "another")
    assert run_command(command) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert "runs/another" in err
    assert "--force" in err
    assert not (place / "runs").exists()
    assert run_command([*command, "--quiet", "--force", "--set", "train.epochs=1"]) == 0
    held.release()
    held = GpuLock.take("1", place / "runs" / "another")
    assert run_command([*command, "--gpus", "2"]) == 2
    assert "GPU 1 is in use by" in capfd.readouterr().err
    assert len(list((place / "runs").iterdir())) == 1
    held.release()


def test_quiet_says_nothing(place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place))
    assert run_command(["run", "tiny.yaml", "--quiet", "--set", "train.epochs=1", "--runs-dir=~/elsewhere"]) == 0
    assert capfd.readouterr() == ("", "")
    assert len(list((place / "elsewhere").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["run"], ["name a preset: quickstart, "]),
        (["run", "quickstrat"], ["quickstrat", "quickstart"]),
        (["run", "nowhere.yaml"], ["nowhere.yaml"]),
        (["run", "tiny.yaml", "--set", "train.epochs=many"], ["train.epochs", "many"]),
        (["run", "tiny.yaml", "--device", "tpu"], ["--device", "tpu"]),
        (["run", "tiny.yaml", "--device", "cuda:93"], ["cuda:93", "--device cpu"]),
        (["run", "tiny.yaml", "--seed", "-1"], ["--seed", "-1"]),
        (["run", "tiny.yaml", "--set", "train.batch_size=161", "--set", "method.meta.buffer_size=200"], ["161", "160"]),
        (["run", "tiny.yaml", "--set", "teachers.0={arch: vgg8, checkpoint: no.pth}"], ["no.pth"]),
        (["run", "fashion-mnist", "--data-root", "empty"], ["fashion-mnist", "mmkd data fetch fashion-mnist"]),
        (["run", "tiny.yaml", "--runs-dir", "tiny.yaml"], ["tiny.yaml", "--runs-dir"]),
    ],
)
def test_mistakes_are_one_clear_line(
    place: Path, arguments: list[str], fragments: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_system_package(monkeypatch)
    monkeypatch.setenv("MMKD_CACHE", str(place / "cache"))
    assert run_command(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith(("tiny: ", "training ", "teacher "))]
    assert len(lines) == 1, err
    for fragment in fragments:
        assert fragment in lines[0]
    assert "Traceback" not in err
    assert not list(place.glob("runs/*"))


def test_sigint_stops_after_the_step_saves_and_exits_130(place: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", "tiny.yaml", "--set", "train.epochs=100000", "--set", "evaluate.student_alone=false", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_student(place)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert json.loads(out)["state"] == "stopped"
    (folder,) = (place / "runs").iterdir()
    assert folder.name in err
    assert (folder / "student.safetensors").exists()
    assert json.loads((folder / "result.json").read_text())["state"] == "stopped"
    assert len(list((folder / "checkpoints").iterdir())) == 1


@pytest.mark.parametrize(
    ("there", "said"),
    [
        ([], "Nothing of the run was saved yet"),
        (["checkpoints/damaged-distil-0-step-000010-1"], "Nothing of the run was saved yet"),
        (["checkpoints/distil-0-step-000010"], "What there is, a checkpoint, is in runs/one"),
        (["student.safetensors"], "What there is, the best student so far, is in runs/one"),
        (
            ["checkpoints/teacher-1-step-1000000", "student.safetensors"],
            "a checkpoint and the best student so far, is in runs/one",
        ),
    ],
)
def test_of_a_stopped_run_only_what_is_there_is_named(
    place: Path, there: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in there:
        (place / "runs" / "one" / name).mkdir(parents=True)
    (place / "runs" / "one").mkdir(parents=True, exist_ok=True)
    _conclude(RunConsole(), {"run_dir": "runs/one", "state": "stopped", "message": stopped("")})
    told = capfd.readouterr().err
    assert told.startswith("Stopped. ")
    assert said in told
    assert "mmkd resume runs/one goes on with it" in told


def test_what_a_stop_could_not_save_is_said_at_the_end(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (place / "runs" / "one").mkdir(parents=True)
    lost = "the last steps of resnet8 by mmkd could not be saved: mmkd resume begins it anew"
    _conclude(RunConsole(), {"run_dir": "runs/one", "state": "stopped", "message": stopped(lost)})
    assert f"Stopped, but {lost}. Nothing of the run was saved yet" in " ".join(capfd.readouterr().err.split())


def test_a_menu_too_long_for_the_screen_asks_for_the_data_set_first(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "4")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*COMMAND, "run"])
    seen = read_until(terminal, b"Which data set?")
    assert b"digits" in seen
    assert b" presets" in seen
    (number,) = re.findall(rb"(\d+)\s+\S*fashion-mnist\b", seen)
    os.write(terminal, number + b"\n")
    seen = read_until(terminal, b"Which one?")
    assert b"fashion-mnist-small" in seen
    assert b"quickstart" not in seen
    interrupt(pid, terminal)


def test_in_a_terminal_there_is_a_menu_and_a_live_picture_and_a_lost_terminal_costs_nothing(place: Path) -> None:
    (place / "tiny.yaml").write_text(dump_preset(tiny("train.epochs=10", "evaluate.student_alone=false")))
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*COMMAND, "run"])
    seen = read_until(terminal, b"[1] ")
    assert b"quickstart" in seen
    os.write(terminal, b"99\n")
    read_until(terminal, b"Type a number")
    interrupt(pid, terminal)

    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [*COMMAND, "run", "tiny.yaml"])
    read_until(terminal, b"2 teachers")
    os.close(terminal)  # the kernel sends SIGHUP
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    (folder,) = (place / "runs").iterdir()
    assert json.loads((folder / "result.json").read_text())["state"] == "done"


def interrupt(pid: int, terminal: int) -> None:
    """By Ctrl-C until it has ended: one that comes just before readline waits for a key is seen with the next key alone."""
    deadline = time.monotonic() + 120
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        assert time.monotonic() < deadline, "it does not end"
        os.write(terminal, b"\x03")
        time.sleep(0.5)
    os.close(terminal)


def wait_for_student(place: Path) -> None:
    deadline = time.monotonic() + 120
    while not list(place.glob("runs/*/student.safetensors")):
        assert time.monotonic() < deadline, "no student after two minutes"
        time.sleep(0.1)


def read_until(terminal: int, text: bytes) -> bytes:
    seen = b""
    deadline = time.monotonic() + 120
    while text not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 0.5)[0]:
            seen += os.read(terminal, 65536)
    return seen
