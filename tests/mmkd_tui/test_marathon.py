"""A week in fast motion: a long run and a viewer on it leave memory, handles, threads and disk as they were."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MARATHON = Path(__file__).parents[2] / "benchmarks" / "marathon.py"
STEPS = 100_000  # enough for its events to be thinned twice; the benchmark itself does a million


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    command = [sys.executable, str(MARATHON), "--steps", str(STEPS), "--json"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-3000:]
    result: dict[str, Any] = json.loads(found.stdout)
    return result


@pytest.mark.slow  # minutes
@pytest.mark.parametrize("process", ["host", "viewer"])
def test_memory_handles_and_threads_stay_as_they_were(figures: dict[str, Any], process: str) -> None:
    seen = figures[process]
    assert seen["megabytes_end"] - seen["megabytes_warm"] < 20
    assert abs(seen["handles_end"] - seen["handles_warm"]) <= 1
    assert abs(seen["threads_end"] - seen["threads_warm"]) <= 1
    assert seen["handles_most"] <= seen["handles_warm"] + 8


@pytest.mark.slow
def test_its_files_are_bounded(figures: dict[str, Any]) -> None:
    assert figures["state"] == "finished"
    assert figures["events_largest_mb"] <= 24
    assert figures["events_thinned"] >= 2
    assert figures["console_largest_mb"] < 20


@pytest.mark.slow
def test_who_comes_at_the_end_sees_the_whole_curve(figures: dict[str, Any]) -> None:
    curve = figures["curve"]
    assert curve["first"] < 0.01
    assert curve["last"] > 0.99
    assert curve["widest"] < 0.01
    assert curve["furthest"] < 0.05
    assert curve["peak"] == pytest.approx(9.0)
    assert curve["epochs"] == curve["epochs_expected"]
