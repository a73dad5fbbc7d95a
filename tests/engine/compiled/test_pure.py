"""The steps as functions of tensors do what the modules and torch.optim do, and change nothing."""

from __future__ import annotations

import pytest
import torch
from support.nets import mmkd_case, random_batch, sgd

from engine.compiled.flat import channels_last
from engine.compiled.pure import Pure, step_of, tensors_of
from engine.meta.sgd import Sgd, momenta_of
from engine.methods.base import Hard
from engine.stepping import Stepper


def arguments(method, optimizer, batch, teachers) -> tuple:
    parameters, buffers, weights = (list(part) for part in Pure(method, Sgd.of(optimizer)).tensors())
    momenta = momenta_of(optimizer, list(method.learner.parameters()))
    lr = torch.tensor(optimizer.param_groups[0]["lr"], dtype=torch.float64)
    return parameters, momenta, buffers, weights, lr, batch.images, batch.labels, *(t for teacher in teachers for t in teacher)


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return torch.allclose(ours.double(), theirs.double(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("nesterov", [True, False])
def test_a_training_step_is_the_one_of_torch_optim(nesterov: bool) -> None:
    method, panel = mmkd_case()
    optimizer = sgd(method, nesterov=nesterov)
    stepper = Stepper(method, optimizer)
    stepper.train(*random_batch(panel, 8, seed=1))  # fills the momenta
    batch, teachers = random_batch(panel, 8, seed=2)
    pure, given = Pure(method, Sgd.of(optimizer)), arguments(method, optimizer, batch, teachers)
    before = [t.clone() for part in given[:4] for t in part]
    after, momenta, buffers, told = pure.train(*given)
    assert all(torch.equal(t, old) for t, old in zip((t for part in given[:4] for t in part), before, strict=True))

    step = stepper.train(batch, teachers)
    for ours, theirs in zip(after, method.learner.parameters(), strict=True):
        assert close(ours, theirs)
    for ours, theirs in zip(momenta, momenta_of(optimizer, stepper.parameters), strict=True):
        assert close(ours, theirs)
    for ours, theirs in zip(buffers, method.learner.buffers(), strict=True):
        assert close(ours, theirs)
    expected = tensors_of(step)
    assert told.keys() == expected.keys() == tensors_of(step_of(told)).keys() == {
        "loss", "logits", "ce", "logit", "feature", "logit_weights", "feature_weights", "finite",
        "counted", "wrong", "row", "rows", "counts", "factors",
    }  # fmt: skip
    for name, value in told.items():
        assert close(value, expected[name]), name


def test_a_meta_step_is_the_methods() -> None:
    method, panel = mmkd_case()
    optimizer = sgd(method)
    stepper = Stepper(method, optimizer)
    stepper.train(*random_batch(panel, 8, seed=1))
    batch, teachers = random_batch(panel, 8, seed=2)
    gradient, told = Pure(method, Sgd.of(optimizer)).meta(*arguments(method, optimizer, batch, teachers))
    expected = stepper.meta_gradient(Hard(batch, teachers))
    for ours, theirs in zip(gradient, expected.gradient, strict=True):
        assert close(ours, theirs)
    fields = (expected.told.outer_loss, expected.told.hard_accuracy, expected.told.logit_gradient, expected.told.feature_gradient)
    for ours, theirs in zip(told, fields, strict=True):
        assert close(ours, theirs)


@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (4, 3, 8, 8), (4, 3, 1, 1), (1, 1, 1, 1), (1, 5, 8, 1)])
def test_what_is_compiled_gets_one_layout_however_it_comes(shape: tuple[int, ...]) -> None:
    """Strides of a dimension of length 1 say nothing, but convolutions choose by them."""
    n, c, h, w = shape
    values = torch.randn(shape)
    ways = [
        values,
        values.contiguous(memory_format=torch.channels_last),
        torch.empty(n, h, w, c).permute(0, 3, 1, 2).copy_(values),
    ]
    found = channels_last(ways)
    assert {tensor.stride() for tensor in found} == {(c * h * w, 1, w * c, c)}
    assert all(torch.equal(tensor, values) for tensor in found)
