"""What a device has no room for is asked after the rest, or told in one line; what is too large is really asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.data import Images, load_images
from engine.errors import UserError
from engine.models import Classifier, build_model
from engine.models.interface import Output
from engine.preset import DatasetPart
from engine.shipping.evaluate import Evaluation, evaluate, facts_of
from engine.shipping.opening import Model
from engine.shipping.runners import Logits, of_module, room_on

CPU = torch.device("cpu")


class Hungry(torch.nn.Module):
    """Of its first `passes` each wants more memory than any machine has."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.inner, self.passes = build_model("resnet8", 1, 10), passes

    def forward(self, images: Tensor) -> Output:
        self.passes -= 1
        if self.passes >= 0:
            torch.empty(1 << 60, dtype=torch.uint8)
        return self.inner(images)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def images() -> Images:
    return load_images(DatasetPart(name="digits"), Path("/nowhere"), CPU)


def measured(images: Images, student: torch.nn.Module, *teachers: torch.nn.Module) -> Evaluation:
    model = Model("student", "run", facts_of(images), of_module(Logits(student).eval(), CPU))  # type: ignore[arg-type]
    named: list[tuple[str, Classifier | str]] = [(f"teacher {n}", one) for n, one in enumerate(teachers)]  # type: ignore[misc]
    return evaluate(model, images, named)


def test_teachers_for_which_there_is_no_room_side_by_side_are_asked_one_after_the_other(images: Images) -> None:
    student, teacher = build_model("resnet8", 1, 10, seed=1), build_model("resnet8", 1, 10, seed=2)
    hungry = Hungry(1)
    hungry.inner.load_state_dict(teacher.state_dict())
    assert measured(images, student, teacher, hungry) == measured(images, student, teacher, teacher)


def test_too_little_memory_is_one_clear_line(images: Images) -> None:
    with pytest.raises(
        UserError, match=r"^out of memory \(.*you tried to allocate 1152921504606846976 bytes.*\); free some"
    ) as found:
        measured(images, Hungry(99))
    assert "\n" not in str(found.value)
    with pytest.raises(UserError, match=r"; give --device cpu$"), room_on(torch.device("cuda:0")):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.1 GiB")
