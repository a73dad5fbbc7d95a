"""No file of a stranger's does more than be read or be refused: changed ones of every kind, in a process of bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
QUICK = 12  # of each of some 27 kinds
MANY = 400


def hold(examples: int) -> None:
    """The reasons why are in what the process says."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(TESTS), os.environ["PYTHONPATH"]))}
    command = [sys.executable, "-m", "support.strangers", str(examples)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert done.stdout.count(f": {examples} files,") >= 27


def test_some_changed_files_of_every_kind() -> None:
    hold(QUICK)


@pytest.mark.slow
def test_ten_thousand_changed_files() -> None:
    hold(MANY)
