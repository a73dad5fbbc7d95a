"""From samples to figures, and the memory of a step."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.bench import memory
from engine.bench.cases import CASES
from engine.bench.measure import Doing, Measured, Series, measure
from engine.bench.report import as_text, growth, report
from engine.bench.subject import Subject

CPU = torch.device("cpu")
MACHINE = {"device": "cpu", "processor": "a processor", "threads": 2, "torch": "2", "load": 0.1}


def sampled(name: str, train: list[float], meta: list[float] | None = None) -> Measured:
    def nothing() -> None:
        pass

    series = None if meta is None else Series(nothing, samples=meta, peak=2_000_000)
    return Measured(Subject(name, nothing), Series(nothing, samples=train, peak=1_000_000), series)


def test_a_mean_iteration_has_its_share_of_the_meta_step() -> None:
    subjects = [sampled("naive", [30.0, 10.0, 20.0], [100.0, 300.0, 200.0]), sampled("student", [4.0, 5.0, 6.0])]
    found = report(CASES["resnet"], subjects, 3, MACHINE, interrupted=False)
    assert found["naive_ms"] == 20 + 200 / 5
    assert found["student_ms"] == 5
    assert found["meta_student_ms"] is None
    assert found["subjects"]["naive"]["images_per_second"] == pytest.approx(64 / 0.060)
    assert found["subjects"]["naive"]["train"]["quartiles_ms"] == [15, 25]
    assert found["subjects"]["naive"]["meta"]["peak_mb"] == 2
    lines = as_text(found)
    assert max(map(len, lines)) <= 80
    assert lines[2].split() == ["naive", "60.0", "20.0", "50", "%", "200.0", "50", "%", "1,067", "2"]


def test_what_was_not_measured_whole_is_left_out() -> None:
    subjects = [sampled("naive", [30.0], []), sampled("auto", []), sampled("student", [4.0])]
    found = report(CASES["resnet"], subjects, 0, MACHINE, interrupted=True)
    assert set(found["subjects"]) == {"student"}
    assert "naive_ms" not in found
    assert found["ratios"] == {}
    assert "interrupted" in as_text(found)[0]
    assert as_text(report(CASES["resnet"], [], 0, MACHINE, interrupted=True))


def test_growth_has_the_case_itself_in_each_block() -> None:
    case = CASES["resnet"]
    cases = [case, replace(case, teachers=("resnet20",) * 2, varied="teachers"), replace(case, batch=512, varied="batch")]
    lines = growth([report(c, [sampled("student", [1.0 * c.batch])], 1, MACHINE, interrupted=False) for c in cases])
    assert [line.split()[0] for line in lines] == ["resnet:", "teachers", "2", "3", "resnet:", "batch", "64", "512"]
    assert growth([report(case, [], 1, MACHINE, interrupted=False)]) == []


def test_rounds_go_there_and_back_and_settle_first() -> None:
    said: list[str] = []

    def subject(name: str) -> Measured:
        return Measured.of(Subject(name, lambda: None, lambda: None, lambda: said.append(f"{name} settled")))

    def tell(doing: Doing) -> None:
        if doing.stage.startswith("round"):
            said.append(doing.what)

    subjects = [subject("one"), subject("two")]
    measure(subjects, 2, CPU, tell)
    steps = [f"{name}, {what}" for name in ("one", "two", "two", "one") for what in ("training step", "meta step")]
    assert said == ["one settled", "two settled", *steps]
    assert all(len(series.samples) == 2 for measured in subjects for _, series in measured.series())


PEAK = """
import torch
from engine.bench import memory

def step():
    for _ in range(3):
        torch.ones(16_000_000)

print(memory.peak_of(step, torch.device("cpu")))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_the_peak_is_what_the_step_held_at_once() -> None:
    """In a process of its own, as the benchmark has: what else a process has done decides what it gives back when."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True, timeout=120)
    assert 60e6 < int(done.stdout) < 130e6


def test_where_the_system_does_not_tell_there_is_no_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PROC", tmp_path / "nothing")
    taken: list[int] = []
    assert memory.peak_of(lambda: taken.append(1), CPU) is None
    assert taken == [1]
