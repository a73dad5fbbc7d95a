"""A trainer of a small preset, outside of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from engine.data import load_images
from engine.methods import make_method
from engine.models import build_model
from engine.models.panel import TeacherPanel
from engine.preset import Preset
from engine.trainer import Phase, Trainer

CPU = torch.device("cpu")


def make_trainer(preset: Preset, poll: Callable[[Trainer], None] = lambda trainer: None, device: torch.device = CPU) -> Trainer:
    """Distils with teachers of random weights."""
    images = load_images(preset.dataset, Path("/nowhere"), device)
    channels, classes = images.facts.channels, images.classes
    panel = TeacherPanel([build_model(t.arch, channels, classes, t.seed).to(device) for t in preset.teachers])
    method = make_method(
        preset.method,
        build_model(preset.student.arch, channels, classes, preset.seed),
        panel.channels,
        classes=classes,
        batch_size=preset.train.batch_size,
        seed=preset.seed,
        device=device,
        heads=[teacher.classify for teacher in panel.teachers],
    )
    phase = Phase("distil", 0, "tiny")
    return Trainer(
        method, images, panel, preset.train, preset.evaluate, seed=preset.seed, phase=phase, emit=lambda e: None, poll=poll
    )
