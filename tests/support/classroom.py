"""A classroom on a few digits, where a training takes a second."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from engine.data import Images, load_images
from engine.events import Event
from engine.preset import CePart, DatasetPart, HardwarePart, Preset, StudentPart, TrainPart
from engine.teachers.store import TeacherStore
from engine.teachers.train import Classroom
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


def classroom(store: Path, events: list[Event] | None = None) -> Classroom:
    """`events` takes what happens."""
    told = [] if events is None else events
    return Classroom(PRESET, few_digits(), TeacherStore(store), torch.device("cpu"), told.append, lambda trainer: None)
