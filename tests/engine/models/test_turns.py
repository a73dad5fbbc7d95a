"""Teachers moved to the device in turn say what resident ones say, to the bit, in the room of two."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.models import build_model
from engine.models.heads import head_alone
from engine.models.panel import TeacherPanel
from engine.models.turns import SLOTS, TurnPanel

CPU = torch.device("cpu")


def teachers(*names: str) -> list:
    found = [build_model(name, 3, 10, seed) for seed, name in enumerate(names)]
    for model in found:
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):  # statistics that folding can get wrong
                nn.init.uniform_(norm.running_mean, -0.5, 0.5, generator=torch.Generator().manual_seed(1))
                nn.init.uniform_(norm.running_var, 0.5, 2.0, generator=torch.Generator().manual_seed(2))
    return found


def batch(seed: int) -> torch.Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("names", [("resnet8",), ("resnet8", "vgg8"), ("resnet8", "vgg8", "wrn_16_1", "resnet14")])
def test_the_same_bits_as_resident_teachers(names: tuple[str, ...], bf16: bool) -> None:
    resident, moved = TeacherPanel(teachers(*names), bf16), TurnPanel(teachers(*names), CPU, bf16)
    said = [moved(batch(seed)) for seed in range(4)]  # an earlier batch's answers stay when a slot is written over
    for seed, found in enumerate(said):
        for one, other in zip(found, resident(batch(seed)), strict=True):
            assert torch.equal(one.logits, other.logits)
            assert torch.equal(one.features, other.features)


def test_the_device_holds_two_of_the_largest_and_copies_what_it_lacks() -> None:
    names = ("resnet8", "vgg8", "wrn_16_1", "resnet14")
    panel = TurnPanel(teachers(*names), CPU)
    panel(batch(0))
    slots = panel._slots
    assert slots is not None
    sizes = [sum(t.numel() * t.element_size() for t in (*m.parameters(), *m.buffers())) for m in teachers(*names)]
    assert len(slots.rooms) == SLOTS
    assert sum(len(room) for room in slots.rooms) < 1.1 * SLOTS * max(sizes) < sum(sizes) + SLOTS * max(sizes)
    assert panel.copies == 4
    panel(batch(1))  # back again: the last two are there still
    assert panel.copies == 6
    assert not any(tensor.device.type != "meta" for one in panel._packed for tensor in one.model.state_dict().values())
    panel.close()
    assert panel._slots is None
    panel(batch(2))


def test_a_panel_of_one_copies_it_once() -> None:
    panel = TurnPanel(teachers("resnet8"), CPU).alone(0)
    for seed in range(3):
        panel(batch(seed))
    assert isinstance(panel, TurnPanel)
    assert panel.copies == 1


@pytest.mark.parametrize("name", ["resnet8", "torchvision:resnet18"])
def test_a_head_alone_classifies_and_carries_gradients(name: str) -> None:
    model = build_model(name, 3, 10, 0, size=64).eval().requires_grad_(False)
    head = head_alone(model, CPU)
    found, wanted = (torch.ones(2, model.feature_channels, 3, 3, requires_grad=True) for _ in range(2))
    said, expected = head(found), model.classify(wanted)
    said.sum().backward()
    expected.sum().backward()
    assert torch.equal(said, expected)
    assert torch.equal(found.grad, wanted.grad)
    kept = sum(tensor.numel() for tensor in head._head.parameters() if tensor.device.type != "meta")
    assert 0 < kept < sum(tensor.numel() for tensor in model.parameters()) * 0.7
    assert all(tensor.device == CPU for tensor in model.parameters())
