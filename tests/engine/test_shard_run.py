"""A run on WebDataset shards that is killed in mid-epoch goes on to the same bits, with another number of workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from support.shards import shards

from engine.preset import Preset
from engine.preset_yaml import parse_preset
from engine.run import Run

YAML = """
name: shards
dataset: {{name: webdataset, path: {path}, size: 32, validation_fraction: 0.2, shuffle: {shuffle}}}
teachers:
  - {{arch: resnet8, seed: 0, train: {{epochs: 1, batch_size: 4}}}}
  - {{arch: resnet8, seed: 1, train: {{epochs: 1, batch_size: 4}}}}
student: {{arch: resnet8}}
method: {{name: mmkd, meta: {{every: 2, buffer_size: 8}}}}
train: {{epochs: 2, batch_size: 4}}
evaluate: {{student_alone: false, batch_size: 8}}
checkpoints: {{every: 0}}
hardware: {{device: cpu, precision: fp32, compile: "off", threads: 1, workers: {workers}}}
"""
KILLED = """
import os, signal, sys
from pathlib import Path
from engine.preset_yaml import parse_preset
from engine.run import Run

folder = Path(sys.argv[1])
run = Run(parse_preset((folder / "asked.yaml").read_text(), "test"), folder / "run", store=folder / "store")
poll, polls = run._poll, 0

def dying(trainer):
    global polls
    polls += trainer.phase.name == "distil"
    poll(trainer)
    if polls == 8:  # in the second epoch, after a checkpoint
        os.kill(os.getpid(), signal.SIGKILL)

run._poll = dying
run.execute()
"""


def yaml(path: Path, shuffle: str, workers: int) -> str:
    return YAML.format(path=path, shuffle=shuffle, workers=workers)


def preset(path: Path, shuffle: str, workers: int) -> Preset:
    return parse_preset(yaml(path, shuffle, workers), "test")


def test_killed_in_mid_epoch_it_goes_on_the_same(tmp_path: Path) -> None:
    data, shuffle = tmp_path / "data", "shards"
    shards(data, train=5, each=6)
    whole = Run(preset(data, shuffle, 0), tmp_path / "whole", store=tmp_path / "store").execute()
    assert whole.state == "done", whole.message
    (tmp_path / "asked.yaml").write_text(yaml(data, shuffle, 0))
    died = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=os.environ, capture_output=True, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not (tmp_path / "run" / "result.json").exists()
    result = Run(preset(data, shuffle, 2), tmp_path / "run", store=tmp_path / "store", resume=True).execute()
    assert result.state == "done", result.message
    one, other = (load_file(tmp_path / name / "student.safetensors") for name in ("whole", "run"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert result.student_accuracy == whole.student_accuracy
