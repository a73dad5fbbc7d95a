"""How busy the machine is: from /proc, from a GPU's library, and nothing at all where neither tells."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.refusal import little_memory

from engine.run_client import Process
from mmkd_tui.system import GIB, GpuUse, MachineUse, SystemMonitor, reader_for


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for /proc, on a machine of 16 GiB without control groups."""
    little_memory(monkeypatch, 16 * GIB)
    for name in ("ROOT", "OWN", "MEMINFO"):
        monkeypatch.setattr(f"engine.control_group.{name}", tmp_path / name.lower())
    return tmp_path


def tells(folder: Path, busy: int, idle: int) -> None:
    (folder / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3\n")
    (folder / "meminfo").write_text("MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    4194304 kB\n")


def test_processor_use_is_that_since_the_last_look(proc: Path) -> None:
    machine = MachineUse(proc)
    tells(proc, busy=100, idle=100)
    assert machine.read() == "RAM 12.0/16.0 GiB"
    tells(proc, busy=175, idle=125)
    assert machine.read() == "CPU 75 %  RAM 12.0/16.0 GiB"


@pytest.mark.parametrize("content", ["", "cpu a b c d e", "cpu 1"])
def test_a_machine_that_tells_nothing_is_no_error(proc: Path, content: str) -> None:
    for name in ("stat", "meminfo"):
        (proc / name).write_text(content)
    assert "RAM" not in MachineUse(proc).read()


class Library:
    """Stands for nvidia-ml-py."""

    NVML_TEMPERATURE_GPU = 0

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=93)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(used=11 * GIB, total=80 * GIB)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:  # noqa: N802
        return 61


class Mute(Library):
    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:  # noqa: N802
        raise OSError("not supported")


class Missing(Library):
    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        raise OSError("no such device")


def test_a_gpu_tells_its_use_memory_and_temperature() -> None:
    assert GpuUse(1, Library()).read() == "GPU 1  93 %  11.0/80.0 GiB  61 °C"


def test_what_a_gpu_does_not_tell_is_left_out() -> None:
    assert GpuUse(0, Mute()).read() == "GPU 0  11.0/80.0 GiB  61 °C"


def test_a_gpu_that_is_not_there_is_none() -> None:
    with pytest.raises(RuntimeError):
        GpuUse(0, Missing())


def test_a_run_on_a_processor_has_no_gpu_line() -> None:
    assert "GPU" not in reader_for("cpu (2 threads)", HERE)()


UUID = "GPU-8f2d4c1e-0000-1111-2222-333344445555"
HERE = Process(4711, platform.node())


class Four(Library):
    """Four GPUs, of which the run's is the last."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:  # noqa: N802
        if uuid != UUID:
            raise OSError("no such device")
        return 3

    def nvmlDeviceGetIndex(self, handle: int) -> int:  # noqa: N802
        return handle


@pytest.mark.parametrize(
    ("process", "visible", "shown"),
    [
        (HERE._replace(gpu=UUID), None, "GPU 3 "),
        (HERE._replace(gpu=UUID), "3", "GPU 3 "),
        (HERE._replace(gpu="GPU-of another"), None, ""),
        (HERE, None, "GPU 0 "),  # of an older release, which did not say: as well as can be
        (HERE, "3", ""),
    ],
)
def test_a_runs_gpu_is_known_by_its_uuid(
    process: Process, visible: str | None, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("mmkd_tui.system.nvml", Four)
    said = reader_for("cuda:0 (NVIDIA H100)", process)()
    assert "RAM" in said
    assert said.startswith(shown) if shown else "GPU" not in said


@pytest.mark.parametrize("process", [None, Process(4711, "elsewhere", UUID)])
def test_of_a_run_on_another_machine_nothing_is_shown(process: Process | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmkd_tui.system.nvml", Four)
    read = reader_for("cuda:0 (NVIDIA H100)", process)
    assert (read(), read()) == ("", "")


def test_a_monitor_that_hangs_holds_up_nobody() -> None:
    began = time.monotonic()
    monitor = SystemMonitor("cpu", None, lambda device, process: lambda: time.sleep(60) or "")
    monitor.stop()
    assert monitor.latest == ""
    assert time.monotonic() - began < 1.0
