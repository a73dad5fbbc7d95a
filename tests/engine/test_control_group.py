"""Limits of control groups of both versions: the smallest on the way up counts, and what cannot be read is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from engine.control_group import memory, memory_left, memory_limit, usable_cores
from engine.data.decoders import chosen_workers
from engine.device import use_threads
from engine.doctor import devices
from engine.preset import HardwarePart
from engine.sweeps.local import LocalExecutor
from engine.untrusted import half_of_memory
from mmkd_tui.machine import Machine, this_machine
from mmkd_tui.system import MachineUse

MIB = 1 << 20


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /sys/fs/cgroup, on a machine of 64 cores."""
    place = tmp_path / "cgroup"
    place.mkdir()
    monkeypatch.setattr("engine.control_group.ROOT", place)
    monkeypatch.setattr("engine.control_group.OWN", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    return place


def fresh() -> Machine:
    """What the terminal app takes the machine for."""
    this_machine.cache_clear()
    try:
        return this_machine()
    finally:
        this_machine.cache_clear()


def belongs(root: Path, *lines: str) -> None:
    (root.parent / "own").write_text("".join(f"{line}\n" for line in lines))


def group(folder: Path, **files: str) -> None:
    """Files by their names, `_` for the first dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".", 1)).write_text(content + "\n")


def test_the_smallest_limit_on_the_way_up_counts(root: Path) -> None:
    belongs(root, "0::/slurm/job_7/step_0/task_0")
    group(root / "slurm", memory_max=str(8 * MIB), memory_current=str(7 * MIB), memory_stat=f"anon 1\ninactive_file {MIB}")
    group(
        root / "slurm/job_7",
        memory_max=str(4 * MIB),
        memory_current=str(MIB),
        memory_stat="inactive_file 0",
        cpu_max="150000 100000",
    )
    group(root / "slurm/job_7/step_0/task_0", memory_max="max", memory_current="1", memory_stat="", cpu_max="max 100000")
    assert memory_limit() == 4 * MIB
    assert memory_left() == 2 * MIB  # of the outer group, which others have filled
    assert usable_cores() == 2
    assert memory() == (4 * MIB, 2 * MIB)
    assert half_of_memory() == 2 * MIB
    assert (fresh().memory, fresh().free) == (4 * MIB, 2 * MIB)


def test_the_dashboard_tells_what_of_the_limit_is_used(root: Path) -> None:
    group(root, memory_max=str(4096 * MIB), memory_current=str(1536 * MIB), memory_stat=f"inactive_file {512 * MIB}")
    assert MachineUse().read() == "RAM 1.0/4.0 GiB"


def test_groups_of_the_first_version_are_read(root: Path) -> None:
    belongs(root, "5:cpu,cpuacct:/docker/4f1d", "4:memory:/docker/4f1d", "0::/")
    # In a container its own group is the root of what is mounted, and the path the host's.
    group(
        root / "memory", memory_limit_in_bytes=str(2 * MIB), memory_usage_in_bytes=str(MIB), memory_stat="total_inactive_file 5"
    )
    group(root / "cpu", cpu_cfs_quota_us="300000", cpu_cfs_period_us="100000")
    assert memory_limit() == 2 * MIB
    assert memory_left() == MIB + 5
    assert usable_cores() == 3


@pytest.mark.parametrize("path", ["/../../other", "/", "/gone/away"])
def test_the_root_of_a_namespace_is_looked_at_whatever_the_path(path: str, root: Path) -> None:
    belongs(root, f"0::{path}")
    group(root, memory_max="77", cpu_max="50000 100000")
    group(root.parent, memory_max="1", cpu_max="1 100000")  # not a group
    assert memory_limit() == 77
    assert usable_cores() == 1


def test_no_limits_and_no_groups_are_no_limit(root: Path) -> None:
    for files in ({}, {"memory_max": "max", "cpu_max": "max 100000"}, {"memory_max": "x", "cpu_max": "1 0"}):
        group(root, **files)
        assert (memory_limit(), memory_left(), usable_cores()) == (None, None, 64)
    belongs(root, "1:cpu:/", "2:memory:/")
    group(root / "cpu", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    group(root / "memory", memory_limit_in_bytes="9223372036854771712")
    assert (memory_limit(), usable_cores()) == (None, 64)


def test_workers_threads_and_slots_follow_the_processor_time(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group(root, cpu_max="400000 100000")
    assert chosen_workers(None) == 3
    assert LocalExecutor(slots=2)._share_of_cores() == 2
    machine = fresh()
    assert machine.cores == 4
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    use_threads(HardwarePart())
    assert asked == []  # OMP_NUM_THREADS, which the tests set, is somebody's wish
    monkeypatch.delenv("OMP_NUM_THREADS")
    use_threads(HardwarePart())
    use_threads(HardwarePart(threads=7))
    assert asked == [4, 7]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    use_threads(HardwarePart())
    assert asked == [4, 7]


def test_doctor_tells_the_limit_of_the_group_that_it_is_in(root: Path) -> None:
    belongs(root, "0::/user/job")
    group(root / "user/job", memory_max=str(1 << 30))
    (memory,) = devices._memory()
    assert memory.value.startswith("1.0 GiB of ")
    assert memory.grade == "warning"
