"""What Slurm is asked for, by commands that stand in for its own; submitit is the real one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.presets import tiny

from engine.errors import UserError
from engine.sweeps.executor import Job

pytest.importorskip("submitit")
from engine.sweeps.on_slurm import SlurmExecutor, SlurmTask
from engine.sweeps.remote import Order


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for PATH; `asked` in it is the script of the last job."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {
        "sbatch": f'cp "$1" {folder}/asked\necho Submitted batch job 12',
        "srun": "",
        "sacct": "echo JobID\\|State\necho 12\\|PENDING",
        "scancel": f'echo "$@" > {folder}/cancelled',
    }
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_a_run_is_a_job_with_what_was_asked_for(slurm: Path, tmp_path: Path) -> None:
    executor = SlurmExecutor(tmp_path / "logs", partition="gpu", minutes=90)
    assert executor.capacity == 64
    job = Job(tmp_path / "runs" / "some-run", tiny("hardware.device=auto", "hardware.threads=6"))
    handle = executor.submit(job)
    asked = (slurm / "asked").read_text()
    for option in ("partition=gpu", "time=90", "gpus-per-node=1", "cpus-per-task=6", "job-name=mmkd-some-run", "nodes=1"):
        assert f"#SBATCH --{option}\n" in asked
    assert re.search(r"#SBATCH --signal=USR2@\d+", asked)  # by which submitit has us save before the time is up
    assert (job.folder / "preset.yaml").is_file()
    assert executor.poll(handle) is None
    executor.cancel(handle)  # it has not begun: out of the queue
    assert (slurm / "cancelled").read_text().split()[-1].startswith("12")
    executor.submit(Job(tmp_path / "runs" / "other", tiny("hardware.device=cpu")))
    assert "#SBATCH --gpus-per-node=0\n" in (slurm / "asked").read_text()


def test_without_slurm_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no Slurm here: sbatch is not found; "):
        SlurmExecutor(tmp_path / "logs")


def test_a_job_that_slurm_refuses_is_told(slurm: Path, tmp_path: Path) -> None:
    (slurm / "sbatch").write_text("#!/bin/sh\necho sbatch: error: invalid partition >&2\nexit 1\n")
    with pytest.raises(UserError, match=r"Slurm did not take the job: .*see the --slurm options"):
        SlurmExecutor(tmp_path / "logs", partition="none").submit(Job(tmp_path / "runs" / "a", tiny()))


def test_a_preempted_task_is_the_same_one_again(tmp_path: Path) -> None:
    task = SlurmTask(Order(str(tmp_path), None, False, ()))
    again = task.checkpoint()
    assert isinstance(again.function, SlurmTask)
    assert again.function.order == task.order
