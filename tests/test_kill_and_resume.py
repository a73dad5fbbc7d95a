"""Runs that are ended by a signal and gone on with end as if nobody had touched them, to the bit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "kill_and_resume.py"


@pytest.mark.parametrize(
    ("signal", "times"),
    [
        ("KILL", 1),
        pytest.param("KILL", 50, marks=pytest.mark.slow),  # minutes, as is the next
        pytest.param("TERM", 50, marks=pytest.mark.slow),
    ],
)
def test_every_run_ends_the_same(signal: str, times: int) -> None:
    command = [sys.executable, str(SCRIPT), "--signal", signal, "--times", str(times), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["same"] == found["runs"] == times
    assert sum(found["endings"].values()) >= times
