"""Recorded steps and teachers compute what they computed before.

On a GPU they are recorded. Elsewhere a stand-in does what matters of a recording: it reads its arguments where they lay, and
puts its results where the last ones were.
"""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
import torch.utils._pytree as pytree
from support.device import DEVICE
from support.nets import mmkd_case, random_batch, sgd
from support.presets import tiny
from support.training import make_trainer
from torch import Tensor

from engine.compiled import recorded as recording
from engine.compiled.flat import Function
from engine.compiled.panel import CompiledPanel
from engine.compiled.pure import Pure
from engine.compiled.recorded import Recorded, Recording
from engine.compiled.steps import CompiledStepper
from engine.data import Batch, Split
from engine.meta.sgd import Sgd
from engine.models import build_model
from engine.models.panel import TeacherPanel
from engine.stepping import Stepper

GPU = DEVICE.type == "cuda"
STEPS = 12  # the first ten are compared
TEACHERS = ("resnet8", "resnet14")  # quick ones


def stand_in(function: Function, args: tuple[Any, ...], device: torch.device) -> Recording:
    results = pytree.tree_map(torch.clone, function(*args))

    def replay() -> None:
        for place, value in zip(pytree.tree_leaves(results), pytree.tree_leaves(function(*args)), strict=True):
            place.copy_(value)

    return Recording(replay, results, room=0)


@pytest.fixture(autouse=True)
def recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    if not GPU:
        monkeypatch.setattr(recording, "record", stand_in)
        for module in ("steps", "panel"):
            monkeypatch.setattr(f"engine.compiled.{module}.records", lambda device: True)


class Compiling:
    """Has compiled functions when it is told so."""

    def __init__(self) -> None:
        self.functions: dict[str, Function] = {}
        self.loading = False

    def ready(self, part: str) -> bool:
        return self.loading

    def start(self) -> None: ...

    def take(self, part: str) -> Any:
        return self.functions.get(part)

    def close(self) -> None: ...


def arguments(seed: int) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(5, 3, generator=generator).to(DEVICE)], torch.randint(9, (5,), generator=generator).to(DEVICE)


def test_it_computes_as_its_function_does_on_any_arguments() -> None:
    def function(tensors: list[Tensor], numbers: Tensor) -> dict[str, Any]:
        return {"sum": tensors[0].sum(1) + numbers, "both": [tensors[0] * 2, numbers + 1]}

    recorded = Recorded(function)
    for seed in range(3):
        given = arguments(seed)
        found, expected = recorded(*given), function(*given)
        assert found.keys() == expected.keys()
        assert torch.equal(found["sum"], expected["sum"])
        assert all(torch.equal(one, other) for one, other in zip(found["both"], expected["both"], strict=True))
        assert torch.equal(recorded.given[0][0], given[0][0])


def test_results_that_come_back_as_arguments_are_read_before_they_are_overwritten() -> None:
    recorded = Recorded(lambda tensor: tensor * 2 + 1)
    tensor = torch.ones(4, device=DEVICE)
    for _ in range(4):
        tensor = recorded(tensor)
    assert tensor.tolist() == [31.0] * 4


def test_what_is_fixed_is_read_where_it_lies() -> None:
    weight, recorded = torch.ones(2, device=DEVICE), Recorded(lambda weight, x: weight * x, fixed=1)
    assert recorded(weight, torch.full((2,), 3.0, device=DEVICE)).tolist() == [3.0, 3.0]
    weight.fill_(5.0)
    assert recorded(weight, torch.full((2,), 2.0, device=DEVICE)).tolist() == [10.0, 10.0]


def test_what_is_released_holds_nothing_and_is_called_as_it_is() -> None:
    recorded = Recorded(lambda tensor: tensor * 2, compiled=True)
    recorded(torch.ones(4, device=DEVICE))
    place = weakref.ref(recorded.given[0])
    assert recorded.room >= 16
    recorded.release()
    assert place() is None
    assert recorded.room == 0
    assert recorded(torch.full((4,), 3.0, device=DEVICE)).tolist() == [6.0] * 4


@pytest.mark.skipif(not GPU, reason="records on a GPU")
def test_a_function_that_asks_the_device_for_a_number_is_not_recorded_and_others_still_are() -> None:
    with pytest.raises(RuntimeError):
        Recorded(lambda tensor: tensor * tensor.sum().item())(torch.ones(3, device=DEVICE))
    assert Recorded(lambda tensor: tensor * 2)(torch.ones(3, device=DEVICE)).tolist() == [2.0] * 3
    assert 0 <= torch.rand(1, device=DEVICE).item() < 1


def go(stepper: Stepper, panel: TeacherPanel, first: int = 0) -> list[float]:
    losses = []
    for number in range(first, first + STEPS):
        step, meta = stepper(*random_batch(panel, 8, seed=number), number)
        losses += [step.loss.item()] if meta is None else [step.loss.item(), meta.outer_loss.item()]
    return losses


def eager(steps: int = STEPS) -> list[float]:
    method, panel = mmkd_case(teachers=TEACHERS, device=DEVICE)
    stepper = Stepper(method, sgd(method))
    return [loss for first in range(0, steps, STEPS) for loss in go(stepper, panel, first)]


def recorded_case() -> tuple[CompiledStepper, TeacherPanel, Compiling, list[str]]:
    method, panel = mmkd_case(teachers=TEACHERS, device=DEVICE)
    told: list[str] = []
    source = Compiling()
    stepper = CompiledStepper(
        method, sgd(method), lambda *hand: source, lambda level, text: told.append(f"{level}: {text}"), "on"
    )
    return stepper, panel, source, told


def test_a_training_changes_over_to_recorded_steps_and_then_to_compiled_ones_and_stays_the_same() -> None:
    stepper, panel, source, told = recorded_case()
    losses = go(stepper, panel)
    recorded = {part: stepper.stages.used(part) for part in ("train", "meta")}
    assert all(isinstance(function, Recorded) for function in recorded.values())
    assert not stepper.compiled("train")
    pure = Pure(stepper.method, Sgd.of(stepper.optimizer))  # what stands for compiled functions
    source.functions = {"train": pure.train, "meta": pure.meta}
    losses += go(stepper, panel, STEPS)
    assert losses == pytest.approx(eager(2 * STEPS), rel=1e-6)
    for part, before in recorded.items():
        assert stepper.compiled(part)
        assert isinstance(stepper.stages.used(part), Recorded)
        assert stepper.stages.used(part) is not before
    assert [line.split(" from")[0] for line in told if "from here on" in line] == [
        "info: recorded training steps",
        "info: recorded meta steps",
        "info: compiled training steps",
        "info: compiled meta steps",
    ]


def test_nothing_is_recorded_while_compiled_steps_are_being_loaded() -> None:
    stepper, panel, source, _ = recorded_case()
    source.loading = True
    go(stepper, panel)
    assert stepper.stages.used("train") is None
    source.loading = False
    go(stepper, panel, STEPS)
    assert isinstance(stepper.stages.used("train"), Recorded)


def test_a_state_that_is_loaded_into_recorded_steps_is_what_they_go_on_from() -> None:
    """A training that goes back to a checkpoint."""
    stepper, panel, _, _ = recorded_case()
    method = stepper.method
    go(stepper, panel)
    learner = {name: value.clone() for name, value in method.learner.state_dict().items()}
    own = {name: value.clone() for name, value in method.state().items()}
    momenta = [stepper.optimizer.state[p]["momentum_buffer"].clone() for p in stepper.parameters]
    expected = go(stepper, panel, STEPS)
    method.learner.load_state_dict(learner)
    method.load_state(own)
    for parameter, momentum in zip(stepper.parameters, momenta, strict=True):
        stepper.optimizer.state[parameter]["momentum_buffer"] = momentum
    assert go(stepper, panel, STEPS) == pytest.approx(expected, rel=1e-8)


def test_a_step_without_memory_leaves_a_recorded_training_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    stepper, panel, _, _ = recorded_case()
    go(stepper, panel)
    assert stepper.stages.used("train") is not None
    before = [tensor.clone() for part in stepper._parts() for tensor in part]

    def none_left(*args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(stepper.method, "after_step", none_left)
    with pytest.raises(torch.OutOfMemoryError):
        stepper(*random_batch(panel, 8, seed=99), STEPS)
    after = [tensor for part in stepper._parts() for tensor in part]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_memory_comes_back_when_a_training_ends() -> None:
    """At once: no collection of garbage is waited for, and none runs while the next training takes its memory."""
    stepper, panel, _, _ = recorded_case()
    go(stepper, panel)
    gone = weakref.ref(stepper.stages.used("train"))  # type: ignore[arg-type]
    results = {tensor.data_ptr() for part in stepper._parts() for tensor in part}
    gc.disable()
    try:
        stepper.close()
        assert gone() is None
    finally:
        gc.enable()
    assert not results & {tensor.data_ptr() for part in stepper._parts() for tensor in part if tensor.numel()}


def too_large(function: Function, args: tuple[Any, ...], device: torch.device) -> Recording:
    raise MemoryError("1 MiB of a recording would leave too little memory on the GPU")


def test_what_cannot_be_recorded_for_want_of_memory_is_used_as_it_is_once_it_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recording, "record", too_large)
    stepper, panel, source, told = recorded_case()
    losses = go(stepper, panel)
    assert stepper.stages.used("train") is None
    assert any(line.startswith("warning: ") and "no recorded training steps (MemoryError: " in line for line in told)
    pure = Pure(stepper.method, Sgd.of(stepper.optimizer))
    source.functions = {"train": pure.train, "meta": pure.meta}
    losses += go(stepper, panel, STEPS)
    assert stepper.compiled("train")
    assert losses == pytest.approx(eager(2 * STEPS), rel=1e-6)


@pytest.mark.parametrize("where", ["batch", "comparison", "meta step", "measurement"])
def test_a_training_goes_on_without_recordings_where_there_is_no_memory_for_them(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A meta step or a measurement takes several times a training step, and the first comes when those have been recorded."""
    preset = tiny("train.epochs=2")
    expected = make_trainer(preset, device=DEVICE).run().measurement
    trainer = make_trainer(preset, device=DEVICE)
    told: list[str] = []
    trainer.stepper = stepper = CompiledStepper(
        trainer.method, trainer.optimizer, lambda *hand: Compiling(), lambda level, text: told.append(text), "on"
    )
    owners = {"batch": Split, "comparison": Stepper, "meta step": trainer.method, "measurement": trainer.student}
    owner: Any = owners[where]
    name = {"batch": "ready", "comparison": "train", "meta step": "meta_gradient", "measurement": "forward"}[where]
    whole, failures = getattr(owner, name), []

    def short(*args: Any) -> Any:
        measuring = where != "measurement" or not trainer.student.training
        if measuring and (stepper.stages.used("train") is not None or (where == "comparison" and not failures)):
            failures.append(where)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(*args)

    monkeypatch.setattr(owner, name, short)
    found = trainer.run().measurement
    assert failures == [where]
    assert len([line for line in told if line.startswith("there is too little memory for recorded steps")]) == 1
    assert stepper.stages.used("train") is None
    assert found.loss == pytest.approx(expected.loss, rel=1e-3 if GPU else 1e-5)


def batches(count: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 8, 1, 8, 8, generator=generator).to(DEVICE)
    return [Batch(one, torch.zeros(8, dtype=torch.int64, device=DEVICE)) for one in images]


@pytest.mark.parametrize("bf16", [False, True])
def test_recorded_teachers_say_what_they_say(bf16: bool) -> None:
    panel = TeacherPanel([build_model(arch, 1, 10, seed=seed).to(DEVICE) for seed, arch in enumerate(("resnet8", "vgg8"))], bf16)
    told: list[str] = []
    asked = CompiledPanel(panel, lambda images, threads: Compiling(), lambda level, text: told.append(text), "on")
    close = 0.02 if bf16 else 1e-4
    for batch in batches(6):
        for ours, theirs in zip(asked.of(batch), panel(batch.images), strict=True):
            for one, other in zip(ours, theirs, strict=True):
                torch.testing.assert_close(one, other, rtol=close, atol=close)
    assert any(line.startswith("recorded teachers from here on") for line in told)


@pytest.mark.skipif(not GPU, reason="compares a GPU with the CPU")
def test_a_training_on_a_gpu_learns_as_on_the_cpu() -> None:
    preset = tiny("train.epochs=2", "hardware.precision=fp32")
    found = [make_trainer(preset, device=device).run().measurement for device in (torch.device("cpu"), DEVICE)]
    assert found[0].loss == pytest.approx(found[1].loss, rel=0.02)
