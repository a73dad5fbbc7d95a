"""A compiler that is not needed any more is ended, whatever signals the process that started it ignores."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.hosts import wait_until

from engine.compiled import builder
from engine.compiled.builder import Builder
from engine.compiled.request import StepsRequest
from engine.meta.sgd import Sgd
from engine.methods import Plan
from engine.preset import KdPart


@pytest.fixture
def compiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Builder]:
    """Begun by a process that ignores SIGTERM, as a rank after the first does."""
    monkeypatch.setenv("MMKD_CACHE", str(tmp_path))
    plan = Plan(KdPart(name="kd"), "resnet8", 1, 10, 16, teacher_channels=(64,))
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    made = Builder(StepsRequest.of(plan, torch.zeros(16, 1, 8, 8), [(64, 2, 2)], Sgd(0.05, 0.9, 5e-4, True)))
    try:
        made.start()
        yield made
    finally:
        signal.signal(signal.SIGTERM, before)
        if (process := made._process) is not None and process.poll() is None:
            process.kill()
            process.wait()


def process_of(compiling: Builder) -> subprocess.Popen[bytes]:
    assert compiling._process is not None
    return compiling._process


def ignores(pid: int, number: int) -> bool:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn:"))
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)


def test_it_ends_when_it_is_told_to(compiling: Builder) -> None:
    process = process_of(compiling)
    wait_until(lambda: not ignores(process.pid, signal.SIGTERM), "the compiler")
    compiling.close()
    assert process.returncode == -signal.SIGTERM


def test_one_that_does_not_listen_is_killed(compiling: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: before it has come to mind signals."""
    process = process_of(compiling)
    monkeypatch.setattr(builder, "PATIENCE", 0.2)
    process.send_signal(signal.SIGSTOP)  # so that it does not come to it
    began = time.monotonic()
    compiling.close()
    assert time.monotonic() - began < 10
    assert process.returncode == -signal.SIGKILL
    other = Builder(compiling.request)
    other.start()  # the folder is free again
    assert other._process is not None
    other.close()
