"""README's way from nothing to a prediction: train, report, export, predict, each one command in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from support.presets import DEVICE

ROOT = Path(__file__).parents[1]
SHORTER = [word for number in range(3) for word in ("--set", f"teachers.{number}.train.epochs=4")]
SHORTER += ["--set", "train.epochs=4", "--set", "dataset.train_images=700", "--set", "evaluate.student_alone=false"]
SHORTER += ["--device", DEVICE]


def mmkd(folder: Path, *arguments: str) -> str:
    """What a command says on stdout, typed in `folder`."""
    places = {f"MMKD_{place.upper()}": str(folder / f"own-{place}") for place in ("teachers", "cache", "data", "config")}
    command = [sys.executable, "-m", "mmkd_tui", *arguments]
    environment = os.environ | places
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.slow
def test_from_an_empty_folder_to_a_prediction(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "empty"
    folder.mkdir()
    result = json.loads(mmkd(folder, "run", "quickstart", "--json", *SHORTER))
    assert result["state"] == "done"
    run = folder / result["run_dir"]

    mmkd(folder, "report", "quickstart")
    page = (run / "report.html").read_text()
    assert f"{result['student_accuracy'] * 100:.2f}" in page
    assert "<svg" in page

    exported = json.loads(mmkd(folder, "export", "quickstart", "--format", "onnx", "--json"))
    onnx = folder / exported["path"]
    assert onnx.suffix == ".onnx"
    assert exported["verified"]["student_accuracy"] == pytest.approx(result["student_accuracy"])

    digits = load_digits()
    numbers = range(0, len(digits.images), 60)
    names = [f"{number}.png" for number in numbers]
    for number, name in zip(numbers, names, strict=True):
        Image.fromarray((digits.images[number] * 255 / 16).round().astype(np.uint8)).save(folder / name)
    told = [json.loads(line) for line in mmkd(folder, "predict", str(onnx), *names, "--json").splitlines()]
    assert [one["image"] for one in told] == names
    right = sum(one["top"][0]["class"] == str(digits.target[n]) for one, n in zip(told, numbers, strict=True))
    assert right >= 0.5 * len(names)
