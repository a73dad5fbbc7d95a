"""Steps and teachers on a GPU, recorded: they compute what they computed before. Without a GPU, nothing here can run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.nets import mmkd_case, random_batch, sgd
from support.presets import tiny
from support.training import make_trainer
from torch import Tensor

from engine.asking import taught
from engine.compiled.panel import CompiledPanel
from engine.compiled.recorded import Recorded
from engine.compiled.steps import CompiledStepper
from engine.data import Batch
from engine.models import build_model
from engine.models.panel import TeacherPanel
from engine.out_of_memory import lacks_memory
from engine.stepping import Stepper

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="records on a GPU")

CUDA = torch.device("cuda", 0)
STEPS = 23


class Nothing:
    """Compiles for ever."""

    def ready(self, part: str) -> bool:
        return False

    def start(self) -> None: ...

    def take(self, part: str) -> Any:
        return None

    def close(self) -> None: ...


def arguments(seed: int) -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(5, 3, generator=generator).to(CUDA)], torch.randint(9, (5,), generator=generator).to(CUDA)


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
    tensor = torch.ones(4, device=CUDA)
    for _ in range(4):
        tensor = recorded(tensor)
    assert tensor.tolist() == [31.0] * 4


def test_what_is_fixed_is_read_where_it_lies() -> None:
    weight, recorded = torch.ones(2, device=CUDA), Recorded(lambda weight, x: weight * x, fixed=1)
    assert recorded(weight, torch.full((2,), 3.0, device=CUDA)).tolist() == [3.0, 3.0]
    weight.fill_(5.0)
    assert recorded(weight, torch.full((2,), 2.0, device=CUDA)).tolist() == [10.0, 10.0]


def test_a_function_that_asks_the_device_for_a_number_cannot_be_recorded_and_the_device_goes_on() -> None:
    with pytest.raises(RuntimeError):
        Recorded(lambda tensor: tensor * tensor.sum().item())(torch.ones(3, device=CUDA))
    assert (torch.ones(3, device=CUDA) * 2).sum().item() == 6.0


def go(stepper: Stepper, panel: TeacherPanel) -> list[float]:
    losses = []
    for number in range(STEPS):
        step, meta = stepper(*random_batch(panel, 8, seed=number), number)
        losses += [step.loss.item()] if meta is None else [step.loss.item(), meta.outer_loss.item()]
    return losses


def recorded_case() -> tuple[CompiledStepper, TeacherPanel, list[str]]:
    method, panel = mmkd_case(device=CUDA)
    told: list[str] = []
    stepper = CompiledStepper(
        method, sgd(method), lambda *hand: Nothing(), lambda level, text: told.append(f"{level}: {text}"), "on"
    )
    return stepper, panel, told


def test_a_training_changes_over_to_recorded_steps_and_stays_the_same() -> None:
    method, panel = mmkd_case(device=CUDA)
    expected = go(Stepper(method, sgd(method)), panel)
    stepper, panel, told = recorded_case()
    assert go(stepper, panel) == pytest.approx(expected, rel=1e-6)
    assert stepper.stages.used("train") is not None
    assert stepper.stages.used("meta") is not None
    assert [line.split(" from")[0] for line in told if "recorded" in line] == [
        "info: recorded training steps",
        "info: recorded meta steps",
    ]


def test_a_step_without_memory_leaves_recorded_training_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    stepper, panel, _ = recorded_case()
    go(stepper, panel)
    assert stepper.stages.used("train") is not None
    before = [tensor.clone() for part in stepper._parts() for tensor in part]

    def none_left(*args: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(stepper.method, "after_step", none_left)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        stepper(*random_batch(panel, 8, seed=99), STEPS)
    assert lacks_memory(caught.value)
    after = [tensor for part in stepper._parts() for tensor in part]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def batches(count: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 8, 1, 8, 8, generator=generator).to(CUDA)
    return [Batch(one, torch.zeros(8, dtype=torch.int64, device=CUDA)) for one in images]


@pytest.mark.parametrize("bf16", [False, True])
def test_recorded_teachers_asked_a_batch_ahead_say_what_they_say(bf16: bool) -> None:
    panel = TeacherPanel([build_model(arch, 1, 10, seed=seed).to(CUDA) for seed, arch in enumerate(("resnet8", "vgg8"))], bf16)
    told: list[str] = []
    asked = CompiledPanel(panel, lambda images, threads: Nothing(), lambda level, text: told.append(text), "on")
    seen = 0
    for (batch, said), given in zip(taught(iter(batches(6)), asked), batches(6), strict=True):
        busy = torch.randn(2000, 2000, device=CUDA)
        for _ in range(20):  # a step that is still being computed while the next answers are
            busy = busy @ busy
        seen += 1
        assert torch.equal(batch.images, given.images)
        for ours, theirs in zip(said, panel(given.images), strict=True):
            for one, other in zip(ours, theirs, strict=True):
                torch.testing.assert_close(one, other, rtol=0.02 if bf16 else 1e-4, atol=0.02 if bf16 else 1e-4)
    assert seen == 6
    assert any(line.startswith("recorded teachers from here on") for line in told)


def test_a_whole_training_on_a_gpu_learns_as_on_the_cpu() -> None:
    preset = tiny("train.epochs=2", "hardware.precision=fp32")
    found = [make_trainer(preset, device=device).run().measurement for device in (torch.device("cpu"), CUDA)]
    assert found[0].loss == pytest.approx(found[1].loss, rel=0.02)
