"""A training step that is compiled for real leaves itself out where it is not finite, as the eager one does."""

from __future__ import annotations

import pytest
import torch
from support.nets import method_case, random_batch

from engine.compiled.flat import callable_of, compile_flat
from engine.compiled.pure import Pure
from engine.meta.sgd import Sgd, momenta_of
from engine.stepping import Stepper


@pytest.mark.slow
def test_it_gives_back_what_it_was_given() -> None:
    method, panel = method_case("kd", ("resnet8",), torch.float32)
    optimizer = torch.optim.SGD(method.learner.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    stepper = Stepper(method, optimizer)
    stepper.train(*random_batch(panel, 8, 0, torch.float32))
    pure = Pure(method, Sgd.of(optimizer))
    momenta = momenta_of(optimizer, stepper.parameters)
    batch, teachers = random_batch(panel, 8, 1, torch.float32)
    given = (*pure.tensors()[:1], momenta, *pure.tensors()[1:], torch.tensor(0.05))
    outputs = [tensor for teacher in teachers for tensor in teacher]
    compiled = callable_of(*compile_flat(pure.train, (*given, batch.images, batch.labels, *outputs), threads=1))
    for wrong in (0.0, float("nan"), float("inf")):
        images = batch.images.clone()
        images[3, 1, 2, 2] += wrong
        *found, told = compiled(*given, images, batch.labels, *outputs)
        *expected, eager = pure.train(*given, images, batch.labels, *outputs)
        assert told["finite"].tolist() == eager["finite"].tolist()
        assert told["finite"].all() == (wrong == 0.0)
        for ours, theirs, before in zip(found, expected, (given[0], given[1], given[2]), strict=True):
            for new, other, old in zip(ours, theirs, before, strict=True):
                torch.testing.assert_close(new, old if wrong else other, rtol=0 if wrong else 1e-3, atol=0 if wrong else 1e-4)
