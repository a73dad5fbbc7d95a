"""Presets small enough to train in a few seconds."""

from __future__ import annotations

from engine import Preset, parse_preset

TINY = """
name: tiny
dataset: {name: digits, train_images: 160}
teachers:
  - {arch: resnet8, seed: 0, train: {epochs: 1, batch_size: 32}}
  - {arch: resnet14, seed: 1, train: {epochs: 1, batch_size: 32}}
student: {arch: resnet8}
method: {name: mmkd, beta: 1, meta: {every: 2, buffer_size: 40}}
train: {epochs: 3, batch_size: 32}
hardware: {compile: off}
"""


def tiny(*overrides: str) -> Preset:
    """Two teachers, a student, 160 digits, three epochs."""
    return parse_preset(TINY, "tiny.yaml", overrides)
