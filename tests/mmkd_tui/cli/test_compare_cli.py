"""`mmkd compare` on run folders whose results are known."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from support.presets import tiny

from engine.event_reader import EventReader
from engine.events import EpochEnded, Metrics, to_line
from engine.preset_yaml import dump_preset
from engine.run_dir import RunDir
from mmkd_tui.cli.main import run_command

Capture = pytest.CaptureFixture[str]
EVIL = "[/red]x\x1b[2J"
A, B = (0.90, 0.91, 0.89), (0.93, 0.95, 0.91)


def make(name: str, accuracy: float | None, *overrides: str) -> None:
    run = RunDir(Path("runs") / name)
    run.path.mkdir(parents=True)
    run.preset.write_text(dump_preset(tiny(*overrides)))
    ended = EpochEnded(
        phase="distil", index=0, epoch=2, step=15, loss=1.25, ce=1.0, accuracy=0.8, measured_accuracy=0.75, best_accuracy=0.77,
        best_epoch=1, lr=0.1,
    )  # fmt: skip
    run.events.write_text(to_line(ended))
    if accuracy is not None:
        run.result.write_text(json.dumps({"state": "done", "student_accuracy": accuracy, "message": EVIL}))


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, (a, b) in enumerate(zip(A, B, strict=True)):
        make(f"a{seed}", a, f"seed={seed}", "hardware.device=cuda:1")
        make(f"b{seed}", b, f"seed={seed}", "method.alpha=2", f"name=other{seed}")
    make("stopped", None, "seed=3")


def test_many_runs_are_told_and_looked_for_in_one_list(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []

    def look(real: Any, path: Any) -> Any:
        listed.append(Path(path))
        return real(path)

    for name in ("scandir", "listdir"):
        monkeypatch.setattr(os, name, functools.partial(look, getattr(os, name)))
    for number in range(20):
        make(f"many-{number:02}", 0.9, f"seed={number}")
    whole = [f"many-{number:02}" for number in range(20)]
    assert run_command(["compare", *whole]) == 0
    assert Path("runs") not in listed  # such a run's folder is known by its name
    assert "reading 20 runs ...\n" in capsys.readouterr().err
    assert run_command(["compare", *(name[2:] for name in whole), "runs/a0", "--json"]) == 0
    assert listed.count(Path("runs")) == 1
    assert [Path(run["path"]).name for run in json.loads(capsys.readouterr().out)["runs"]] == [*whole, "a0"]


def test_where_curves_ended_is_found_among_the_steps(capsys: Capture) -> None:
    steps = (
        Metrics(phase="distil", index=0, epoch=2, step=k, steps=15, lr=0.1, loss=9.0, ce=9.0, accuracy=0.1, images_per_second=1.0)
        for k in range(5000)
    )
    path = Path("runs/a0/events.jsonl")
    path.write_text("".join(map(to_line, steps)) + path.read_text())
    assert run_command(["compare", "a0", "a1", "--json"]) == 0
    first, second = (run["end"] for run in json.loads(capsys.readouterr().out)["runs"])
    assert first == second
    (only,) = EventReader(path, metrics=False).poll()
    assert isinstance(only, EpochEnded)


def test_seeds_of_two_experiments(capsys: Capture) -> None:
    names = ["a0", "a1", "a2", "b0", "b1", "b2", "stopped"]
    assert run_command(["compare", *names, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [run["group"] for run in found["runs"]] == list("AAABBBA")
    first, second = found["groups"]
    assert first["settings"] == {"method.alpha": 1.0}
    assert second["settings"] == {"method.alpha": 2.0}
    assert first["comparison"] is None
    assert first["accuracy"]["mean"] == pytest.approx(90.0)
    assert first["accuracy"]["n"] == 3
    assert second["accuracy"]["std"] == pytest.approx(2.0)
    half = stats.t.ppf(0.975, 2) * 2.0 / 3**0.5
    assert second["accuracy"]["half_width"] == pytest.approx(half)
    test = second["comparison"]
    assert test["difference"] == pytest.approx(3.0)
    assert test["p"] == pytest.approx(stats.ttest_rel(B, A).pvalue)
    assert test["p_holm"] == test["p"]  # there is but one test
    assert found["runs"][0]["end"] == {
        "epochs": 3, "loss": 1.25, "accuracy": 0.75, "best_accuracy": 0.77, "best_epoch": 1,
    }  # fmt: skip
    assert found["runs"][-1]["accuracy"] is None
    assert run_command(["compare", *names]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["method.alpha", "1.0", "2.0"] in rows
    assert ["A", "a0", "0", "finished", "3", "1.2500", "75.00", "%", "77.00", "%", "in", "2", "90.00", "%"] in rows
    assert any(row[:4] == ["B", "other0", "3", "93.00"] and "+3.00" in row for row in rows)


@pytest.mark.parametrize(("layout", "same"), [("digits", True), ("train", True), ("", False), ("gone", False)])
def test_a_split_seed_decides_test_images_only_where_a_folder_has_none(layout: str, same: bool, capsys: Capture) -> None:
    """Elsewhere it is validation images that are others."""
    for part in ("train", "test") if layout == "train" else ("",):
        for number in range(2):
            (Path("own") / part / f"class-{number}").mkdir(parents=True)
    dataset = "dataset={name: digits}" if layout == "digits" else f"dataset={{name: imagefolder, path: {Path('own').resolve()}}}"
    if layout == "gone":  # which may be so on the machine that trained
        Path("own").rename("elsewhere")
    for seed, (a, b) in enumerate(zip(A, B, strict=True)):
        make(f"one{seed}", a, f"seed={seed}", dataset)
        make(f"two{seed}", b, f"seed={seed}", dataset, "dataset.split_seed=1")
    assert run_command(["compare", *(f"{name}{seed}" for name in ("one", "two") for seed in range(3)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["groups"][1]["comparison"] is not None) is same
    assert ("the test images are not the same" in " ".join(found["notes"])) is not same


def test_other_images_are_not_held_against_each_other(capsys: Capture) -> None:
    make("c0", 0.5, "dataset={name: mnist}")
    assert run_command(["compare", "a0", "c0", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["groups"][1]["comparison"] is None
    assert "the test images are not the same" in err
    make("d0", 0.5, "dataset.train_images=100")  # the same test images, whatever was trained on
    assert run_command(["compare", "a0", "d0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["groups"][1]["comparison"]["difference"] == pytest.approx(-40)


def test_one_seed_counts_once(capsys: Capture) -> None:
    make("again", 0.2, "seed=0")
    assert run_command(["compare", "a0", "a1", "again", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["groups"][0]["accuracy"]["mean"] == pytest.approx(90.5)
    assert "again has the seed 0 of another run of A; it is not counted" in err


@pytest.mark.parametrize(
    ("names", "fragment"),
    [(["a0"], "name two runs or more"), (["a0", "a0"], "name two runs or more"), (["a0", "none"], "no run 'none'")],
)
def test_mistakes(names: list[str], fragment: str, capsys: Capture) -> None:
    assert run_command(["compare", *names]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert fragment in err


def test_help_fits_and_no_torch_is_imported(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run_command(["compare", "--help"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "Example: mmkd compare " in out
    code = """
import sys
from mmkd_tui.cli.main import run_command
assert run_command(["compare", "a0", "b0"]) == 0
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
