"""`mmkd doctor` on this very machine, and on machines that lack something."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.doctor import places, session
from mmkd_tui import terminal
from mmkd_tui.cli.main import run_command

Capture = pytest.CaptureFixture[str]


def looked(capfd: Capture, code: int) -> dict[tuple[str, str], dict[str, Any]]:
    assert run_command(["doctor", "--json"]) == code
    told = json.loads(capfd.readouterr().out)
    assert all(one["remedy"] for one in told["findings"] if one["grade"] in ("warning", "problem"))
    assert told["problems"] == sum(one["grade"] == "problem" for one in told["findings"])
    return {(one["section"], one["name"]): one for one in told["findings"]}


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TEACHERS", "CACHE", "DATA"):
        monkeypatch.setenv(f"MMKD_{name}", str(tmp_path / name.lower()))


def test_it_tells_what_is_here(tmp_path: Path, capfd: Capture) -> None:
    found = looked(capfd, 0)
    assert found["places", "teachers"]["value"].startswith(f"{tmp_path / 'teachers'}, 0 kept")
    assert found["data", "digits"]["grade"] == "ok"
    assert found["software", "torch"]["grade"] == "ok"
    assert "core" in found["devices", "processor"]["value"]
    assert {section for section, _ in found} == {"software", "devices", "data", "places", "session", "terminal"}
    assert list(tmp_path.iterdir()) == []  # it has made nothing


def test_a_store_that_cannot_be_written_is_a_problem_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MMKD_TEACHERS", str(tmp_path / "file" / "evil\x1b[2J"))
    found = looked(capfd, 1)["places", "teachers"]
    assert found["grade"] == "problem"
    assert f"{tmp_path / 'file'} is not a folder" in found["value"]
    assert found["remedy"] == "set MMKD_TEACHERS to another folder"
    assert run_command(["doctor"]) == 1
    out, err = capfd.readouterr()
    assert "X teachers" in out
    assert "\x1b" not in out
    assert "1 problem" in err


def test_a_gpu_that_cannot_be_asked_hides_no_other(monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    def memory(index: int) -> tuple[int, int]:
        if index == 0:
            raise RuntimeError("CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.")
        return 70 << 30, 80 << 30

    asked = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "get_device_capability": lambda device: (9, 0),
        "get_device_properties": lambda index: SimpleNamespace(name="NVIDIA H100", major=9, minor=0),
        "mem_get_info": memory,
    }
    for name, answer in asked.items():
        monkeypatch.setattr(f"torch.cuda.{name}", answer)
    found = looked(capfd, 0)
    assert "cannot be used now: CUDA error: out of memory" in found["devices", "cuda:0"]["value"]
    assert found["devices", "cuda:0"]["grade"] == "warning"
    assert "70.0 of 80.0 GiB free" in found["devices", "cuda:1"]["value"]
    assert found["devices", "cuda:1"]["grade"] == "ok"


def test_a_missing_compiler_is_told(monkeypatch: pytest.MonkeyPatch, capfd: Capture, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    found = looked(capfd, 0)["software", "C++ compiler"]
    assert found["grade"] == "warning"
    assert "g++" in found["remedy"]


@pytest.mark.parametrize("gpus", [0, 1, 4])
def test_little_shared_memory_matters_to_several_gpus_alone(gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(total=64 << 20, free=1 << 40)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    found = [one for one in places.folder_findings(tmp_path, tmp_path) if one.name == "/dev/shm"]
    assert len(found) == (gpus > 1)
    assert all("--gpus" in one.remedy and "workers" not in one.remedy for one in found)


def test_under_slurm_a_run_is_to_be_a_job_step_or_no_signal_reaches_it() -> None:
    (found,) = (one for one in session.findings({"SLURM_JOB_ID": "4711"}) if one.name == "Slurm")
    assert "4711" in found.value
    assert "--signal=TERM@120" in found.remedy
    assert "srun mmkd run" in found.remedy


@pytest.mark.parametrize(
    ("kills", "lingers", "grade"),
    [("b true", "no", "problem"), ("b true", "yes", "ok"), ("b false", "no", "ok"), ("", "no", "note")],
)
def test_a_logout_that_ends_runs_is_told(
    kills: str, lingers: str, grade: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, answer in (("busctl", kills), ("loginctl", lingers)):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho '{answer}'\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(session, "SYSTEMD", tmp_path)
    (found,) = (one for one in session.findings({"USER": "nobody"}) if one.name == "logout")
    assert found.grade == grade
    assert ("loginctl enable-linger" in found.remedy) == (grade != "ok")


@pytest.mark.parametrize(
    ("environment", "encoding", "name", "words"),
    [
        ({"TERM": "xterm-256color"}, "utf-8", "colours", "256"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "utf-8", "colours", "16 million"),
        ({"TERM": "xterm"}, "utf-8", "colours", "16"),
        ({"TERM": "xterm", "NO_COLOR": "1"}, "utf-8", "colours", "NO_COLOR"),
        ({"TERM": "xterm"}, "ascii", "characters", "drawn in ASCII"),
        ({"TERM": "xterm"}, "utf-8", "characters", "braille"),
        ({"TERM": "dumb"}, "utf-8", "terminal", "TERM is dumb"),
        ({"TERM": "screen-256color", "TMUX": "x"}, "utf-8", "terminal", "in tmux"),
    ],
)
def test_what_the_terminal_can_show(environment: dict[str, str], encoding: str, name: str, words: str) -> None:
    (found,) = (one for one in terminal.findings(environment, encoding, True) if one.name == name)
    assert words in found.value
