"""`mmkd bench` as a user types it. No test here cares how long anything takes."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mmkd_tui.cli.main import run_command

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "mmkd_tui", "bench"]
WITH_META = ("naive", "exact", "auto", "cached")
WITHOUT = ("aver", "limit", "student")


@pytest.mark.slow
def test_json_has_every_figure_and_they_agree(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bench", "--case", "tiny", "--device", "cpu", "--json"]) == 0
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert (found["case"], found["rounds"], found["interrupted"]) == ("tiny", 7, False)
    for name in (*WITH_META, *WITHOUT):
        share = found[f"meta_{name}_ms"] / found["every"] if name in WITH_META else 0
        assert found[f"{name}_ms"] == pytest.approx(found[f"train_{name}_ms"] + share)
        assert found[f"train_{name}_ms"] > 0
        detail = found["subjects"][name]
        assert detail["images_per_second"] == pytest.approx(found["batch"] / found[f"{name}_ms"] * 1000)
        assert detail["train"]["peak_mb"] is None or detail["train"]["peak_mb"] >= 0
        assert len(detail["train"]["samples_ms"]) == 7
        assert (detail["meta"] is None) == (name in WITHOUT)
        assert name in err
    assert all(found[f"meta_{name}_ms"] is None for name in WITHOUT)
    assert found["ratios"]["naive/auto"] == pytest.approx(found["naive_ms"] / found["auto_ms"])
    assert found["ratios"]["meta_naive/meta_exact"] == pytest.approx(found["meta_naive_ms"] / found["meta_exact_ms"])
    assert all(math.isfinite(ratio) for ratio in found["ratios"].values())
    assert set(found["machine"]) >= {"date", "processor", "flags", "threads", "load", "device", "torch", "mmkd"}


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (["--case", "vggg"], ["--case", "vggg", "vgg"]),
        (["--case", "tiny", "--case", "none\x1b[31m"], ["--case", "imagenet"]),
        (["--device", "tpu"], ["--device", "tpu", "cuda:N"]),
        (["--device", "cuda:93"], ["--device", "cuda:93", "--device cpu"]),
        (["--rounds", "6"], ["--rounds", "7"]),
        (["--rounds", "many"], ["--rounds", "integer"]),
        (["--threads", "0"], ["--threads", "0"]),
        (["--only", "naive,fast"], ["--only", "fast", "cached"]),
    ],
)
def test_mistakes_are_one_clear_line(arguments: list[str], fragments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bench", *arguments, "--json"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "\x1b" not in err
    for fragment in fragments:
        assert fragment in err


def test_ctrl_c_gives_what_has_been_measured() -> None:
    process = subprocess.Popen(
        [*COMMAND, "--case", "tiny", "--device", "cpu", "--only", "student,limit", "--rounds", "100000", "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "round 3 of 100000" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    found = json.loads(out)
    assert found["interrupted"]
    assert 2 <= found["rounds"] < 100000
    assert found["limit_ms"] > 0
    assert "interrupted" in err
    assert "Traceback" not in err
