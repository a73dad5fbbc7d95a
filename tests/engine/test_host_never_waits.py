"""Training steps ask the device for no number and copy nothing to it that the host would wait for: it can run ahead of a GPU.

Nothing is computed here: on PyTorch's `meta` device, shapes alone are. See support/waits.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from support.picture_sets import pictures
from support.presets import tiny
from support.training import make_trainer
from support.waits import DEVICE, Waits

from engine.compiled.panel import PART, CompiledPanel
from engine.compiled.pure import Pure, PurePanel
from engine.compiled.steps import CompiledStepper
from engine.data import load_images
from engine.kernels.finite import all_finite, finite_parts
from engine.measure import logits_of
from engine.meta.sgd import Sgd
from engine.models.panel import TeacherPanel
from engine.preset import DatasetPart
from engine.teachers.cache_part import Layout
from engine.teachers.cache_rows import rows_of
from engine.trainer import Trainer

STEPS = 3
SMALL = f"dataset.train_images={32 * STEPS}"
METHODS = (
    "{name: ce}",
    "{name: aver}",
    "{name: ebkd}",
    "{name: camkd, beta: 1}",
    "{name: fitnet}",
    "{name: mmkd, beta: 1, meta: {every: 2, buffer_size: 40}}",
    "{name: mmkd, beta: 1, weigh: logits, meta: {every: 2, buffer_size: 40, batches: random}}",
    "{name: mmkd, beta: 1, meta: {learning: joint}}",
)


def steps(trainer: Trainer) -> tuple[list[str], int]:
    """Where the host waited in an epoch's steps, and how many of them were meta steps."""
    trainer.method.learner.train()
    waits, number, metas = Waits(), 0, 0
    with waits:
        for batch in trainer.images.train.shuffled(trainer.recipe.batch_size, 0, 0, trainer.images.augmenting(True)):
            step, meta = trainer.stepper(batch, trainer.panel.of(batch), number)
            trainer.meter.add(step, batch.labels, meta)
            trainer.tally.add(step, meta)
            number, metas = number + 1, metas + (meta is not None)
    assert number == STEPS
    return waits.found, metas


@pytest.mark.parametrize("method", METHODS)
def test_eager_steps(method: str) -> None:
    waits, metas = steps(make_trainer(tiny(SMALL, f"method={method}"), device=DEVICE))
    assert not waits
    assert (metas > 0) == ("every" in method)


def test_a_checkpoint_is_looked_at_where_its_tensors_lie() -> None:
    """Adam counts its steps on the CPU, whatever the device of all else."""
    trainer = make_trainer(tiny(SMALL), device=DEVICE)
    assert steps(trainer)[1]
    with Waits():
        tensors = trainer.method.state()
        assert len({tensor.device for tensor in tensors.values()}) == 2
        assert all_finite(tensors.values(), DEVICE).device == DEVICE


def test_a_learner_without_buffers() -> None:
    with Waits() as waits:
        found = finite_parts(torch.empty((), device=DEVICE), [torch.empty(3, device=DEVICE)], [])
    assert found.device == DEVICE
    assert not waits.found


def test_compiled_steps_and_teachers() -> None:
    """What stands for compiled functions are those that a compiler is given."""
    trainer = make_trainer(tiny(SMALL), device=DEVICE)
    pure = Pure(trainer.method, Sgd.of(trainer.optimizer))
    stepper = CompiledStepper(trainer.method, trainer.optimizer, _nothing, lambda level, text: None)
    stepper.changeover.compiled = {"train": pure.train, "meta": pure.meta}
    trainer.stepper = stepper
    assert isinstance(trainer.panel, TeacherPanel)
    panel = CompiledPanel(trainer.panel, _nothing, lambda level, text: None)
    asked = PurePanel(trainer.panel, torch.empty(32, 1, 8, 8, device=DEVICE))
    panel._tensors = asked.tensors()
    panel.changeover.compiled = {PART: asked.teachers}
    trainer.panel = panel
    waits, metas = steps(trainer)
    assert not waits
    assert metas


@pytest.mark.parametrize("held", ["device", "memory"])
def test_rows_of_a_teacher_cache(held: str) -> None:
    layout = Layout("logits", (10,), "float16")
    rows = rows_of([(layout, np.zeros((160, layout.row), np.uint8))] * 2, DEVICE, held)
    with Waits() as waits:
        found = rows.take(torch.ones(32, dtype=torch.int64), torch.arange(32))
    assert found.shape == (32, 10)
    assert not waits.found


def test_pictures_from_files(tmp_path: Path) -> None:
    pictures(tmp_path, {"train": 12, "test": 5})
    part = DatasetPart(name="imagefolder", path=str(tmp_path), size=32)
    images = load_images(part, tmp_path, DEVICE, 0)
    with Waits() as waits:
        batches = list(images.train.shuffled(4, 0, 0, images.augmenting(True)))
    images.close()
    assert batches
    assert all(batch.images.device == DEVICE for batch in batches)
    assert not waits.found


def test_a_measurement() -> None:
    trainer = make_trainer(tiny(), device=DEVICE)
    with Waits() as waits:
        logits = logits_of(trainer.student, trainer.images.validation, 64)
    assert logits.device == DEVICE
    assert not waits.found


def test_what_would_wait_is_found() -> None:
    """Each of the ways that this file is about, so that it cannot pass by finding nothing."""
    there, mask = torch.empty(4, device=DEVICE), torch.empty(4, dtype=torch.bool, device=DEVICE)
    ways = {
        "a copy": lambda: torch.zeros(4).to(DEVICE),
        "a copy into": lambda: there.copy_(torch.zeros(4)),
        "an index on the CPU": lambda: there[torch.tensor([1, 2])],
        "a mask": lambda: there.index_put_((mask,), torch.empty(4, device=DEVICE)),
    }
    for name, way in ways.items():
        with Waits() as waits:
            way()
        assert waits.found, name
    for asks in (there.sum().item, there.tolist, lambda: bool(mask.all())):
        with pytest.raises((RuntimeError, NotImplementedError)):
            asks()
    with Waits() as waits:
        torch.zeros(4).to(DEVICE, non_blocking=True)
        there.copy_(torch.zeros(4), non_blocking=True)
        there[torch.empty(2, dtype=torch.int64, device=DEVICE)].add_(torch.tensor(1.0))
    assert not waits.found


def _nothing(*given: object) -> Sequence[object]:
    raise AssertionError("nothing is compiled here")
