"""Options that change a setting: a mistake in one is told the same way by every command, and once."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from support.presets import TINY

from mmkd_tui.cli.main import run_command
from mmkd_tui.cli.options import load_named

SWEEP = "name: some\npresets: [tiny.yaml]\nsettings: {train.lr: [0.1, 0.2]}\n"
TABLE = "name: pair\npresets: [tiny.yaml]\nmethods: [{name: mmkd}, {name: aver}]\nseeds: [0, 1]\n"
COMMANDS = (["run", "tiny.yaml"], ["teachers", "train", "tiny.yaml"], ["sweep", "some.yaml"], ["table", "pair.yaml"])

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in {"tiny.yaml": TINY, "some.yaml": SWEEP, "pair.yaml": TABLE}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def refused(capfd: Capture, *arguments: str) -> str:
    assert run_command(arguments) == 2
    return capfd.readouterr().err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_device_that_there_cannot_be(command: list[str], place: Path, capfd: Capture) -> None:
    assert refused(capfd, *command, "--device", "tpu") == "--device: 'tpu' does not fit; use auto, cpu, cuda or cuda:N\n"
    assert refused(capfd, *command, "--device", "t" * 100).startswith("--device: 'tttt")  # messages cut what is so long
    assert {path.suffix for path in place.iterdir()} == {".yaml"}


def test_what_was_set_otherwise_keeps_its_words(place: Path, capfd: Capture) -> None:
    assert "--set hardware.device=tpu: hardware.device: 'tpu' does" in refused(
        capfd, "run", "tiny.yaml", "--set", "hardware.device=tpu", "--seed", "1"
    )
    assert refused(capfd, "run", "tiny.yaml", "--seed", "-1").startswith("--seed: -1 is out of range")
    (place / "some.yaml").write_text(SWEEP.replace("train.lr: [0.1, 0.2]", "hardware.device: [cpu, cuda]"))
    assert refused(capfd, "sweep", "some.yaml", "--device", "cpu") == (
        "--device: the sweep varies hardware.device; change its settings\n"
    )


def test_relative_paths_of_a_preset_on_stdin_are_of_the_current_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TINY.replace("{arch: resnet8, seed: 0, train: {epochs: 1, batch_size: 32}}", "{arch: resnet8, checkpoint: sub/a.pt}")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert load_named("-", ["seed=3"]).teachers[0].checkpoint == str(place / "sub" / "a.pt")
