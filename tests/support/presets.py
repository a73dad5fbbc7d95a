"""Presets small enough to train in a few seconds."""

from __future__ import annotations

import os

from engine import Preset, parse_preset

# The processor, so that runs come to the same on every machine; another by wish: MMKD_TEST_DEVICE=cuda pytest
DEVICE = os.environ.get("MMKD_TEST_DEVICE", "cpu")
ON_CPU = "hardware.device=cpu"  # for who looks at bits, by wish or not: a GPU's kernels may add up in any order
TINY = f"""
name: tiny
dataset: {{name: digits, train_images: 160}}
teachers:
  - {{arch: resnet8, seed: 0, train: {{epochs: 1, batch_size: 32}}}}
  - {{arch: resnet14, seed: 1, train: {{epochs: 1, batch_size: 32}}}}
student: {{arch: resnet8}}
method: {{name: mmkd, beta: 1, meta: {{every: 2, buffer_size: 40}}}}
train: {{epochs: 3, batch_size: 32}}
hardware: {{device: {DEVICE}, compile: off}}
"""


def tiny(*overrides: str) -> Preset:
    """Two teachers, a student, 160 digits, three epochs."""
    return parse_preset(TINY, "tiny.yaml", overrides)
