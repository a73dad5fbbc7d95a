"""Real clusters on this machine: Ray with three nodes, one of which is lost, and submitit with a job that is preempted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hosts import Watched, no_process_left, wait_until
from support.presets import DEVICE, TINY

from engine.events import CheckpointSaved, EpochEnded, RunStarted, TeacherReady, from_line
from engine.preset_yaml import parse_preset
from engine.run_client import DirectoryClient
from engine.run_state import RunState
from engine.sweeps.executor import Job
from engine.sweeps.work import work_off

pytestmark = pytest.mark.slow

PRESET = TINY.replace(f"device: {DEVICE}", "device: cpu, threads: 1").replace("epochs: 3", "epochs: 6")
PRESET += "evaluate: {student_alone: false}\n"
SWEEP = """\
name: twelve
presets: [tiny.yaml]
settings: {train.lr: [0.01, 0.02, 0.05, 0.1, 0.2, 0.4]}
seeds: [0, 1]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(PRESET)
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    return tmp_path


def parent(pid: int) -> int:
    """The parent of a process; 0 where there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return 0


def at_work(folder: Path, below: int) -> Iterator[Path]:
    """Folders of the runs whose process is a grandchild of this one: of a node's worker."""
    for beat in folder.glob("*/heartbeat.json"):
        watched = Watched(beat.parent)
        if watched.client.state() is RunState.RUNNING and parent(parent(watched.pid)) == below:
            yield beat.parent


def saved_in_the_middle(folders: Callable[[], Iterator[Path]]) -> Path:
    """A run that is distilling and has a checkpoint of that, asked for by us."""
    asked: dict[Path, Watched] = {}

    def look() -> Path | None:
        for folder in folders():
            watched = asked.setdefault(folder, Watched(folder))
            if watched.seen(lambda event: isinstance(event, CheckpointSaved) and event.step > 0):
                return folder
            if watched.seen(lambda event: isinstance(event, EpochEnded) and event.phase == "distil"):
                watched.client.request("checkpoint")
        return None

    found: list[Path] = []
    wait_until(lambda: found.extend(filter(None, [look()])) or found, "a checkpoint", 240)
    return found[0]


def events(folder: Path) -> list[Any]:
    if not (folder / "events.jsonl").exists():
        return []
    return [event for line in (folder / "events.jsonl").read_text().splitlines() if (event := from_line(line)) is not None]


def distilled(folder: Path) -> list[EpochEnded]:
    """The epochs of the distillation, in the order in which they were done."""
    return [event for event in events(folder) if isinstance(event, EpochEnded) and event.phase == "distil"]


def begun_anew(folder: Path) -> int:
    """How often a run's first epoch was done."""
    return sum(event.epoch == 0 for event in distilled(folder))


def test_twelve_runs_on_three_nodes_of_which_one_is_lost(place: Path) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster  # type: ignore[import-not-found,unused-ignore]

    # A short run may be over before it is looked at: those of the node that is to be lost have time.
    (place / "tiny.yaml").write_text(PRESET.replace("epochs: 6", "epochs: 10"))
    folder = place / "runs" / "sweeps" / "twelve"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    raylet = nodes[1].all_processes["raylet"][0].process.pid
    command = [sys.executable, "-m", "mmkd_tui", "sweep", "sweep.yaml", "--json", "--on", "ray"]
    command += ["--ray", cluster.address]
    with no_process_left(folder):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            lost = saved_in_the_middle(lambda: at_work(folder, raylet))
            os.kill(Watched(lost).pid, signal.SIGKILL)  # the node with all that is on it
            os.kill(raylet, signal.SIGKILL)
            cluster.remove_node(nodes[1], allow_graceful=False)
            out, err = process.communicate(timeout=1800)
        finally:
            process.kill()
            cluster.shutdown()
    assert process.returncode == 0, err
    runs = json.loads(out)["runs"]
    assert [run["state"] for run in runs] == ["done"] * 12, err
    assert all(run["student_accuracy"] is not None for run in runs)
    folders = [Path(run["run_dir"]) for run in runs]
    starts = {path.name: sum(isinstance(event, RunStarted) for event in events(path)) for path in folders}
    assert starts[lost.name] == 2
    assert re.search(r"goes on from checkpoints/distil-0-step-0*[1-9]", (lost / "console.log").read_text())
    assert {path.name: begun_anew(path) for path in folders} == {path.name: 1 for path in folders}
    # Teachers were trained once, by whichever run was first; nobody else had to wait for more than that.
    ready = [event for path in folders for event in events(path) if isinstance(event, TeacherReady)]
    assert sum(event.source == "trained" for event in ready) == 2


def test_a_preempted_job_of_submitits_goes_on_from_its_checkpoint(place: Path) -> None:
    pytest.importorskip("submitit")
    from engine.sweeps.on_slurm import SlurmExecutor

    preset = parse_preset(PRESET.replace("epochs: 6", "epochs: 60"), "tiny.yaml")
    jobs = [Job(place / "runs" / f"run-{seed}", preset.model_copy(update={"seed": seed})) for seed in range(2)]
    executor = SlurmExecutor(place / "slurm", gpus=0, minutes=60, slots=2, cluster="local")
    told: list[tuple[int, str]] = []
    preempted: list[Path] = []
    deadline = time.monotonic() + 400

    def watch() -> bool:
        """Preempts the first run in the middle, as Slurm does: by a signal to the job's Python."""
        folder = jobs[0].folder
        if not preempted and any(event.epoch == 3 for event in distilled(folder)):
            preempted.append(folder)
            os.kill(parent(Watched(folder).pid), signal.SIGUSR2)
        return time.monotonic() > deadline

    with no_process_left(place / "runs"):
        works = work_off(jobs, executor, asked_to_stop=watch, tell=lambda work, change: told.append((work.number, change)))
        executor.close()
    assert preempted
    assert [work.ended.state for work in works if work.ended] == [RunState.FINISHED] * 2
    assert [change for number, change in told if number == 1] == ["started", "done"]  # a preemption is no end
    folder = jobs[0].folder
    assert "goes on from checkpoints/distil-0-step-" in (folder / "console.log").read_text()
    assert [begun_anew(job.folder) for job in jobs] == [1, 1]
    assert DirectoryClient(folder).result()["state"] == "done"  # type: ignore[index]
    assert sorted({event.epoch for event in distilled(folder)}) == list(range(60))


def test_ctrl_c_has_a_run_on_ray_save_and_stop(place: Path) -> None:
    pytest.importorskip("ray")
    (place / "sweep.yaml").write_text(
        "name: long\npresets: [tiny.yaml]\noverrides: {train: {epochs: 2000}}\nsettings: {train.lr: [0.01, 0.02]}\n"
    )
    folder = place / "runs" / "sweeps" / "long"
    command = [sys.executable, "-m", "mmkd_tui", "sweep", "sweep.yaml", "--on", "ray"]
    with no_process_left(folder):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            wait_until(lambda: any(distilled(beat.parent) for beat in folder.glob("*/heartbeat.json")), "a run", 300)
            (begun,) = {beat.parent for beat in folder.glob("*/heartbeat.json") if distilled(beat.parent)}
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=300)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert DirectoryClient(begun).state() is RunState.STOPPED
    assert list((begun / "checkpoints").glob("distil-0-step-*"))
