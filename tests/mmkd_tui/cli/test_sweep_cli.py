"""`mmkd sweep` as a user types it: real runs on this machine, broken off, gone on with, failed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.hosts import distilling, no_process_left, wait_until
from support.presets import TINY

from engine.gpu_lock import GpuLock
from engine.run_client import DirectoryClient
from engine.run_state import RunState
from engine.sweeps.executor import Job, write_down
from engine.sweeps.plan import SweepPlan, plan_sweep
from mmkd_tui.cli import executors
from mmkd_tui.cli.executors import local_devices
from mmkd_tui.cli.main import run_command
from mmkd_tui.machine import Gpu, Machine

QUICK = TINY.replace("epochs: 3", "epochs: 2").replace("compile: off", "threads: 1, precision: fp32, compile: off")
QUICK = QUICK.replace("{name: mmkd, beta: 1, meta: {every: 2, buffer_size: 40}}", "{name: aver}")
QUICK += "evaluate: {student_alone: false}\n"
# The third has no batch of that size.
SWEEP = "name: some\npresets: [tiny.yaml]\nsettings: {train.batch_size: [32, 16, 60000]}\n"
LONG = "name: long\npresets: [tiny.yaml]\nsettings: {train.lr: [0.01, 0.02]}\noverrides: {train: {epochs: 100}}\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(QUICK)
    (tmp_path / "some.yaml").write_text(SWEEP)
    (tmp_path / "long.yaml").write_text(LONG)
    return tmp_path


@pytest.mark.slow
def test_a_sweep_trains_teachers_once_tells_a_failure_and_does_nothing_twice(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = place / "runs" / "sweeps" / "some"
    with no_process_left(folder):
        assert run_command(["sweep", "some.yaml", "--slots", "2", "--json"]) == 1
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert [run["state"] for run in found["runs"]] == ["done", "done", "failed"]
    assert found["counts"] == {"done": 2, "failed": 1}
    assert "mmkd: run 3 of 3: batch_size=60000, seed 0: failed: " in err
    assert "mmkd: 1 of 3 runs are not done; the same command tries them again:" in err
    results = []
    for run in found["runs"][:2]:  # the sweep says what the runs say
        result = json.loads((Path(run["run_dir"]) / "result.json").read_text())
        assert run["student_accuracy"] == result["student_accuracy"]
        assert run["best_accuracy"] == result["best_accuracy"]
        assert run["settings"] == {"train.batch_size": run["settings"]["train.batch_size"]}
        results.append(result)
    assert found["best"] == max(found["runs"][:2], key=lambda run: run["best_accuracy"])["run_dir"]
    sources = sorted(teacher["source"] for result in results for teacher in result["teachers"])
    assert sources == ["store", "store", "trained", "trained"]

    assert run_command(["sweep", "some.yaml", "--report-only"]) == 0
    out, _ = capfd.readouterr()
    assert [line.split()[2] for line in out.splitlines()[1:]] == ["done", "done", "failed"]
    assert f"{100 * max(result['best_accuracy'] for result in results):.2f} %" in out.splitlines()[1]


@pytest.mark.slow
def test_ctrl_c_stops_and_saves_all_and_the_same_command_goes_on(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = place / "runs" / "sweeps" / "long"
    with no_process_left(folder):
        process = subprocess.Popen(
            [sys.executable, "-m", "mmkd_tui", "sweep", "long.yaml", "--slots", "2"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            wait_until(lambda: len(distilling(folder)) == 2, "two runs", 240)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=240)
        finally:
            process.kill()
        assert process.returncode == 130, err
        assert "Stopped; what is done stays done, and the same command goes on from here" in err
        runs = [beat.parent for beat in folder.glob("*/preset.yaml")]
        assert [DirectoryClient(run).state() for run in runs] == [RunState.STOPPED] * 2
        assert all(list((run / "checkpoints").iterdir()) for run in runs)
        assert run_command(["sweep", "long.yaml", "--slots", "2", "--set", "hardware.device=cpu"]) == 0
        _, err = capfd.readouterr()
    assert err.count("goes on (mmkd attach") == 2
    for run in runs:
        assert DirectoryClient(run).state() is RunState.FINISHED
        assert "goes on from checkpoints/" in (run / "console.log").read_text()


@pytest.mark.parametrize("command", ["sweep", "table"])
def test_a_missing_tracker_is_told_before_the_first_run(
    command: str, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "table.yaml").write_text("name: some\npresets: [tiny.yaml]\nmethods: [{name: aver}]\nseeds: [0, 1]\n")
    monkeypatch.setitem(sys.modules, "trackio", None)  # as where it is not installed
    file = {"sweep": "some.yaml", "table": "table.yaml"}[command]
    assert run_command([command, file, "--set", "trackers=[trackio]"]) == 2
    told = "mmkd: trackers: trackio is not installed; pip install 'mmkd-tui[trackio]' brings it, or leave it out\n"
    assert capfd.readouterr().err == told
    assert not (place / "runs").exists()


def done(sweep: Path, *overrides: str) -> SweepPlan:
    """A sweep of which all runs are done."""
    plan = plan_sweep(sweep, Path("runs"), overrides)
    for run in plan.runs:
        write_down(Job(run.folder, run.preset))
        (run.folder / "events.jsonl").touch()
        (run.folder / "result.json").write_text(json.dumps({"state": "done", "student_accuracy": 0.5}))
    return plan


def test_runs_that_are_done_need_no_gpu(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    done(place / "long.yaml")
    other = GpuLock.take("0", place / "another-run")
    command = ["sweep", "long.yaml", "--device", "auto"]
    assert run_command([*command, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["counts"] == {"done": 2}
    assert run_command([*command, "--set", "train.epochs=3"]) == 2
    assert "GPU 0 is in use by" in capfd.readouterr().err
    other.release()


def test_a_lost_terminal_ends_nothing(place: Path) -> None:
    done(place / "long.yaml")
    command = [sys.executable, "-m", "mmkd_tui", "sweep", "long.yaml"]
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as gone:
        gone.wait()
        ended = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, stderr=gone.stdin, timeout=60)
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["counts"] == {"done": 2}
    with Path("/dev/full").open("w") as full:  # the report is lost, and that is told
        told = subprocess.run([*command, "-q"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    why = "No space left on device; the same command with --report-only tells it again"
    assert (told.returncode, told.stderr) == (1, f"mmkd: the report cannot be written: {why}\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere.yaml"], "nowhere.yaml: there is no such file"),
        (["some.yaml", "--set", "train.batch_size=8"], "--set train.batch_size=8: the sweep varies train.batch_size"),
        (["some.yaml", "--ray", "auto", "--on", "local"], "--ray goes with --on ray, not with --on local"),
        (["some.yaml", "--slurm-gpus", "2"], "the --slurm options go with --on slurm, not with --on local"),
        (["some.yaml", "--on", "cloud"], "'cloud' is not one of"),
        (["some.yaml", "--slots", "0"], "--slots"),
        (
            ["some.yaml", "--runs", "tiny.yaml"],
            "tiny.yaml/sweeps/some cannot be written: File exists; name another place",
        ),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_begun(
    arguments: list[str], line: str, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["sweep", *arguments]) == 2
    out, err = capfd.readouterr()
    assert line in err
    assert (out, err.count("\n")) == ("", 1)
    assert not (place / "runs").exists()


@pytest.mark.parametrize(("on", "module"), [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_extra_is_one_line_with_the_command(
    on: str, module: str, place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as where it is not installed
    assert run_command(["sweep", "some.yaml", "--on", on]) == 2
    assert capfd.readouterr().err == (f"mmkd: --on {on} needs {module}, which is not installed; pip install 'mmkd-tui[{on}]'\n")


def test_nothing_of_a_cluster_is_imported_unless_it_is_asked_for() -> None:
    code = (
        "import sys\nfrom mmkd_tui.cli.main import run_command\n"
        "run_command(['sweep', '--help'])\nimport engine.sweeps.work, engine.sweeps.on_ray, engine.sweeps.on_slurm\n"
        "print([name for name in ('ray', 'submitit', 'torch') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout.splitlines()[-1] == "[]"


def test_runs_are_shared_out_to_the_gpus_that_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(8, None, None, (Gpu(0, "A", 1, 1), Gpu(1, "A", 1, 1)))
    monkeypatch.setattr("mmkd_tui.machine.this_machine", lambda: machine)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert local_devices({"auto"}) == ["0", "1"]
    assert local_devices({"cpu"}) == local_devices({"auto", "cuda:1"}) == [None]  # chosen already
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-8f2a")
    assert local_devices({"cuda"}) == ["3", "GPU-8f2a"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local_devices({"auto"}) == [None]
    assert executors.Where(slots=2).words == ["--slots", "2"]
