"""`mmkd table` as a user types it: real runs, broken off, gone on with, skipped, failed."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.hosts import Watched, distilling, no_process_left, wait_until
from support.presets import TINY

from engine.gpu_lock import GpuLock
from engine.run_client import DirectoryClient
from engine.run_state import RunState
from mmkd_tui.cli.main import run_command

QUICK = TINY.replace("epochs: 3", "epochs: 2").replace("compile: off", "threads: 1, precision: fp32, compile: off")
QUICK += "evaluate: {student_alone: false}\n"
TABLE = """\
name: pair
presets: [tiny.yaml]
methods:
  - {name: mmkd}
  # Long enough to be caught at work.
  - {name: aver, label: AVER, overrides: {train: {epochs: 20}}}
seeds: [0, 1]
published: [{method: AVER, mean: 33.3, source: 'Someone, table 2'}]
"""
BROKEN = """\
name: broken
presets: [tiny.yaml]
methods:
  - name: aver
    label: Bad teachers
    overrides: {teachers: [{arch: resnet8, checkpoint: bad.safetensors}, {arch: resnet14, checkpoint: bad.safetensors}]}
  - {name: ce, overrides: {teachers: []}}
seeds: [0]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(QUICK)
    (tmp_path / "pair.yaml").write_text(TABLE)
    (tmp_path / "broken.yaml").write_text(BROKEN)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=str)
def test_a_table_is_broken_off_and_the_same_command_goes_on(
    seeds: tuple[int, ...], place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "pair.yaml").write_text(TABLE.replace("[0, 1]", str(list(seeds))))
    folder = place / "runs" / "tables" / "pair"
    with no_process_left(folder):
        process = subprocess.Popen(
            [sys.executable, "-m", "mmkd_tui", "table", "pair.yaml"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            wait_until(lambda: any(path.name.startswith("aver-s0-") for path in distilling(folder)), "the second run", 240)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=240)
        finally:
            process.kill()
        assert process.returncode == 130, err
        assert out == ""
        assert err.rstrip().endswith("this goes on from here: mmkd table pair.yaml")
        (first,) = folder.glob("mmkd-s0-*")
        (second,) = folder.glob("aver-s0-*")
        assert DirectoryClient(first).state() is RunState.FINISHED
        assert DirectoryClient(second).state() is RunState.STOPPED
        assert list((second / "checkpoints").iterdir())
        assert not list(folder.glob("*-s1-*"))
        finished = (first / "result.json").stat().st_mtime_ns

        assert run_command(["table", "pair.yaml", "--json", "--out", "paper"]) == 0
        out, err = capfd.readouterr()
    assert f"run 2 of {2 * len(seeds)}: AVER, seed 0 was stopped; it goes on" in err
    assert "run 1 of" not in err
    assert (first / "result.json").stat().st_mtime_ns == finished
    assert "goes on from checkpoints/" in (second / "console.log").read_text()
    (table,) = json.loads(out)["tables"]
    assert [(run["method"], run["seed"], run["state"]) for run in table["runs"]] == [
        (method, seed, "done") for seed in seeds for method in ("MMKD", "AVER")
    ]
    for run in table["runs"]:  # the table says what the runs say
        assert run["accuracy"] == 100 * json.loads((Path(run["run_dir"]) / "result.json").read_text())["student_accuracy"]
    lines = {line["label"]: line for line in table["lines"]}
    assert list(lines) == ["teacher resnet8-s0", "teacher resnet14-s1", "teachers' average", "MMKD", "AVER"]
    accuracies = {name: [run["accuracy"] for run in table["runs"] if run["method"] == name] for name in ("MMKD", "AVER")}
    assert lines["AVER"]["mean"] == pytest.approx(sum(accuracies["AVER"]) / len(seeds))
    difference = sum(a - m for a, m in zip(accuracies["AVER"], accuracies["MMKD"], strict=True)) / len(seeds)
    assert lines["AVER"]["comparison"]["difference"] == pytest.approx(difference)
    assert {path.suffix for path in (place / "paper").iterdir()} == {".md", ".csv", ".tex"}
    assert "(trained)" not in err  # each teacher was trained once, by the first run
    assert "(store)" in err

    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert run_command(["table", "pair.yaml", "--report-only"]) == 0
    out, err = capfd.readouterr()
    assert out == (folder / "pair.md").read_text()
    assert "Someone, table 2" in out
    assert {path: path.stat().st_mtime_ns for path in before if path != folder} == {
        path: when for path, when in before.items() if path != folder
    }


def test_a_run_that_fails_is_told_and_the_others_go_on(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (place / "bad.safetensors").write_bytes(b"no weights")
    assert run_command(["table", "broken.yaml"]) == 1
    out, err = capfd.readouterr()
    assert "mmkd: run 1 of 2: Bad teachers, seed 0: failed: " in err
    assert "bad.safetensors" in err
    assert "mmkd: 1 of 2 runs are not done; the same command tries them again:" in err
    assert "1 of 2 runs are not done." in out.replace("\n", " ")
    row = next(line for line in out.splitlines() if line.startswith("| No teacher"))
    assert row.split("|")[2].strip() not in ("", "n/a")
    assert "| Bad teachers | " in out


def test_mistakes_are_told_before_anything_is_begun(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["table", "pair.yaml", "nowhere.yaml"]) == 2
    assert "there is no table 'nowhere.yaml'" in capfd.readouterr().err
    assert run_command(["table", "broken.yaml"]) == 2  # its teachers' file is not there
    assert "bad.safetensors" in capfd.readouterr().err
    assert not (place / "runs").exists()


@pytest.mark.parametrize("options", [(), ("--slots", "2")], ids=str)
@pytest.mark.parametrize("what", ["a file", "read-only"])
def test_runs_that_can_lie_nowhere_are_not_tried(what: str, options: tuple[str, ...], place: Path) -> None:
    command = [sys.executable, "-m", "mmkd_tui", "table", "pair.yaml", *options]
    if what == "a file":
        (place / "runs").touch()
    elif os.geteuid():
        place.chmod(0o500)
    elif shutil.which("setpriv"):  # whoever is root may write everywhere else
        place.chmod(0o500)
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all", *command]
    else:
        pytest.skip("needs setpriv where it is run by root")
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=240)
    finally:
        place.chmod(0o700)
    assert found.returncode == 2, found.stderr
    assert found.stdout == ""
    (line,) = found.stderr.splitlines()
    assert re.fullmatch(r"mmkd: runs/tables/pair cannot be written: .*; name another place with --runs", line)
    assert not (place / "runs").is_dir()


def test_a_busy_gpu_of_this_machine_matters_only_to_runs_on_this_machine(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "submitit", None)  # as where it is not installed
    held = GpuLock.take("0", place / "another")
    try:
        assert run_command(["table", "pair.yaml", "--device", "cuda"]) == 2
        assert "GPU 0 is in use by" in capfd.readouterr().err
        assert run_command(["table", "pair.yaml", "--device", "cuda", "--on", "slurm"]) == 2
        assert "--on slurm needs submitit" in capfd.readouterr().err
    finally:
        held.release()
    assert not (place / "runs").exists()


def test_a_report_of_nothing_says_so(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["table", "pair.yaml", "--report-only", "--set", "train.lr=0.01"]) == 0
    out, _ = capfd.readouterr()
    assert "4 of 4 runs are not done." in out.replace("\n", " ")
    assert "n/a" in out


def test_runs_of_several_presets_can_be_told_apart(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def start(*_: object) -> None:
        raise OSError("as far as this test goes")

    monkeypatch.setattr("engine.sweeps.local.start_host", start)
    (place / "other.yaml").write_text(QUICK.replace("name: tiny", "name: other"))
    (place / "two.yaml").write_text("name: two\npresets: [tiny.yaml, other.yaml]\nmethods: [{name: aver}]\nseeds: [0]\n")
    for options in ((), ("--slots", "1")):
        assert run_command(["table", "two.yaml", *options]) == 1
        err = capfd.readouterr().err
        assert "mmkd: run 1 of 2: tiny, Average, seed 0: failed" in err
        assert "mmkd: run 2 of 2: other, Average, seed 0: failed" in err
    listed = json.loads((place / "runs" / "tables" / "two" / "sweep.json").read_text())["runs"]
    assert [run["label"] for run in listed] == ["tiny, Average s0", "other, Average s0"]


@pytest.mark.slow
def test_a_run_whose_process_is_killed_does_not_end_the_table(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (place / "pair.yaml").write_text(
        TABLE.replace("{name: mmkd}", "{name: ce, overrides: {teachers: []}}").replace("[0, 1]", "[0]")
    )
    folder = place / "runs" / "tables" / "pair"
    with no_process_left(folder):
        process = subprocess.Popen(
            [sys.executable, "-m", "mmkd_tui", "table", "pair.yaml"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            wait_until(lambda: list(folder.glob("aver-s0-*/heartbeat.json")), "the second run", 240)
            (killed,) = folder.glob("aver-s0-*")
            Watched(killed).kill()
            out, err = process.communicate(timeout=240)
        finally:
            process.kill()
        assert process.returncode == 1, err
        assert "mmkd: run 2 of 2: AVER, seed 0: crashed: its process ended by signal 9" in err
        assert "1 of 2 runs are not done." in out.replace("\n", " ")
        assert DirectoryClient(killed).state() is RunState.CRASHED
        assert run_command(["table", "pair.yaml", "--quiet"]) == 0
        assert DirectoryClient(killed).state() is RunState.FINISHED
