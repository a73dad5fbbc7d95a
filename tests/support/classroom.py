"""A classroom on a few digits, where a training takes a second."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from engine.data import Images, load_images
from engine.events import Event
from engine.preset import CePart, DatasetPart, HardwarePart, Preset, StudentPart, TrainPart
from engine.teachers.store import Stored, TeacherStore
from engine.teachers.train import Classroom
from engine.teachers.weights import pack
from engine.trainer import Phase

DATASET = DatasetPart(name="digits", train_images=96)
RECIPE = TrainPart(epochs=1, batch_size=32)
PRESET = Preset(
    name="test",
    dataset=DATASET,
    student=StudentPart(arch="resnet8"),
    method=CePart(name="ce"),
    hardware=HardwarePart(device="cpu"),
)
PHASE = Phase("teacher", 0, "resnet8-s0")


@functools.cache
def few_digits() -> Images:
    return load_images(DATASET, Path("/nowhere"), torch.device("cpu"))


def other_bits(weights: bytes) -> bytes:
    """What a GPU may make of the same training: it adds up in another order each time."""
    tensors = safetensors.torch.load(weights)
    return pack({name: value * (1 + 2e-3) if value.is_floating_point() else value for name, value in tensors.items()})


def another_run_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, another run has kept the same teachers, in other bits, just before."""
    add = TeacherStore.add

    def late(self: TeacherStore, key: str, weights: bytes, facts: dict[str, Any]) -> Stored:
        add(TeacherStore(self.root), key, other_bits(weights), facts | {"who": "another"})
        return add(self, key, weights, facts)

    monkeypatch.setattr(TeacherStore, "add", late)


def classroom(store: Path, events: list[Event] | None = None) -> Classroom:
    """`events` takes what happens."""
    told = [] if events is None else events
    return Classroom(PRESET, few_digits(), TeacherStore(store), torch.device("cpu"), told.append, lambda trainer: None)
