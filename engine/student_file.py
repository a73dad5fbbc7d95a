"""`student.safetensors`: the weights of a run's student, and in its metadata what is needed to use them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from engine.data import Images
from engine.paths import write_whole
from engine.preset import Preset
from engine.version import version


def save_student(path: Path, preset: Preset, weights: Mapping[str, Tensor], epoch: int, images: Images) -> None:
    """Whole or not at all. OSError where it cannot be written."""
    split = images.train
    facts = {
        "format": "pt",
        "arch": preset.student.arch,
        "dataset": preset.dataset.name,
        "split_seed": str(preset.dataset.split_seed),
        "classes": json.dumps(images.facts.classes),
        "channels": str(images.facts.channels),
        "size": str(images.facts.size),
        "resize": str(images.facts.scaled_to),
        "mean": json.dumps(split.mean.flatten().tolist()),
        "std": json.dumps(split.std.flatten().tolist()),
        "epoch": str(epoch),
        "mmkd": version(),
    }
    stored = {name: value.to("cpu", copy=True).contiguous() for name, value in weights.items()}
    write_whole(path, safetensors.torch.save(stored, metadata=facts))
