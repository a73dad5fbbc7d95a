"""The precision of a network's pass, and what it is allowed to touch."""

from __future__ import annotations

import pytest
import torch

from engine.device import uses_bf16
from engine.kernels import Arithmetic
from engine.models import build_model
from engine.preset import HardwarePart


@pytest.mark.parametrize("arch", ["resnet8", "vgg8", "wrn_16_1"])
def test_bfloat16_reaches_the_feature_map_and_stops_before_the_head(arch: str) -> None:
    model, images = build_model(arch, 3, 5), torch.randn(4, 3, 16, 16)
    expected = model(images)
    with Arithmetic(bf16=True):
        logits, features = model(images)
    assert features.dtype == torch.bfloat16
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, expected.logits)
    assert (logits - expected.logits).norm() < 0.05 * expected.logits.norm()


def test_parameters_and_their_gradients_stay_float32() -> None:
    model = build_model("resnet8", 3, 5)
    with Arithmetic(bf16=True):
        loss = model(torch.randn(4, 3, 16, 16)).logits.square().sum()
    loss.backward()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}


def test_it_ends_with_its_block() -> None:
    model, images = build_model("resnet8", 3, 5).eval(), torch.randn(4, 3, 16, 16)
    before = model(images).logits
    with Arithmetic(bf16=True, twice=True):
        model(images)
    assert torch.equal(model(images).logits, before)


def test_a_precision_that_is_named_is_taken() -> None:
    cpu = torch.device("cpu")
    assert uses_bf16(HardwarePart(precision="bf16"), cpu)
    assert not uses_bf16(HardwarePart(precision="fp32"), cpu)
