"""MMKD's ablations: what each leaves out, and that it leaves the rest as it is."""

from __future__ import annotations

import pytest
import torch
from support.nets import method_case, mmkd_case, random_batch, sgd

from engine.compiled.pure import Pure
from engine.compiled.stepper import EagerStepper
from engine.compiled.steps import WORTH
from engine.meta.sgd import Sgd, momenta_of
from engine.methods.base import Hard
from engine.methods.step import accounted
from engine.preset import MetaPart
from engine.stepping import Stepper

FINITE = torch.ones(3, dtype=torch.bool)  # every part of a step

JOINT = MetaPart(learning="joint", lr=0.01, weight_decay=0.0)


@pytest.mark.parametrize("side", ["logits", "features"])
def test_one_side_alone_is_weighed_and_learned(side: str) -> None:
    method, panel = mmkd_case(weigh=side)
    full, _ = mmkd_case()
    batch, teachers = random_batch(panel, 8, seed=1)
    step, whole = method.step(batch, teachers), full.step(batch, teachers)
    equal = torch.full((8, 2), 0.5, dtype=torch.float64)
    own, other = ("logit_weights", "feature_weights") if side == "logits" else ("feature_weights", "logit_weights")
    assert torch.equal(getattr(step, own), getattr(whole, own))
    assert torch.equal(getattr(step, other), equal)
    optimizer = sgd(method)
    found = Stepper(method, optimizer).meta_gradient(Hard(*random_batch(panel, 8, seed=2)))
    half = len(found.gradient) // 2
    learned, left = (
        (found.gradient[:half], found.gradient[half:]) if side == "logits" else (found.gradient[half:], found.gradient[:half])
    )
    assert all(g.abs().sum() > 0 for g in learned)
    assert all(g.abs().sum() == 0 for g in left)


def test_one_side_alone_can_be_compiled() -> None:
    method, panel = mmkd_case(weigh="logits")
    optimizer = sgd(method)
    hard = Hard(*random_batch(panel, 8, seed=2))
    expected = Stepper(method, optimizer).meta_gradient(hard)
    pure = Pure(method, Sgd.of(optimizer))
    parameters, buffers, weights = pure.tensors()
    momenta = momenta_of(optimizer, list(method.learner.parameters()))
    outputs = [tensor for teacher in hard.teachers for tensor in teacher]
    lr = parameters[0].new_tensor(0.05)
    gradient, _ = pure.meta(parameters, momenta, buffers, weights, lr, hard.batch.images, hard.batch.labels, *outputs)
    for one, other in zip(gradient, expected.gradient, strict=True):
        torch.testing.assert_close(one, other)


def test_joint_learning_follows_the_gradient_of_the_step_s_own_matching_loss() -> None:
    method, panel = mmkd_case(meta=JOINT)
    twin, _ = mmkd_case(meta=JOINT)
    batch, teachers = random_batch(panel, 8, seed=1)

    # By the definition: the sums of weights times losses, differentiated with respect to the nets, and Adam's first step.
    plain, _ = mmkd_case()
    losses = plain.step(batch, teachers)
    output = twin.learner(batch.images, [(t.features.shape[2], t.features.shape[3]) for t in teachers])
    a = twin.nets.logit_weights([t.logits for t in teachers], output.logits)
    b = twin.nets.feature_weights([t.features for t in teachers], output.features)
    own = twin.match(output, teachers, (a, b))
    value = (a * own.divergences.detach()).sum(1).mean() + 100 * (b * own.distances.detach()).sum(1).mean()
    expected = torch.autograd.grad(value, twin.weights)
    before = [w.detach().clone() for w in method.weights]

    stepper = Stepper(method, sgd(method))
    step, meta = stepper(batch, teachers, 0)
    assert meta is None
    assert torch.equal(step.loss, losses.loss)
    for weight, start, gradient in zip(method.weights, before, expected, strict=True):
        moved = -0.01 * gradient / (gradient.abs() + 1e-8)  # Adam's first step
        torch.testing.assert_close(weight.detach() - start, moved, rtol=1e-6, atol=1e-12)
    assert all(w.grad is None for w in method.weights)
    assert method.buffer.rows == []


def test_joint_learning_changes_nothing_in_how_the_student_learns_from_given_weights() -> None:
    found = []
    for meta in (JOINT, MetaPart(buffer_size=16)):
        method, panel = mmkd_case(meta=meta)
        stepper = Stepper(method, sgd(method))
        stepper.train(*random_batch(panel, 8, seed=1))
        found.append(torch.cat([p.detach().flatten() for p in method.learner.parameters()]))
    assert torch.equal(*found)


@pytest.mark.parametrize(("batches", "taken"), [("hard", 0), ("random", 8)])
def test_random_batches_take_samples_that_the_student_gets_right(batches: str, taken: int) -> None:
    method, panel = mmkd_case(meta=MetaPart(buffer_size=16, batches=batches))
    for number in range(3):
        batch, teachers = random_batch(panel, 8, seed=number)
        step = method.step(batch, teachers)
        right = batch._replace(labels=step.logits.argmax(1))
        step = accounted(step, FINITE, right.labels, len(teachers))
        method.after_step(right, teachers, step, number)
    images = method.buffer.rows[0]
    assert sum(bool((images == image).flatten(1).all(1).any()) for image in batch.images) == taken


@pytest.mark.parametrize(("mode", "seconds", "lines"), [("on", 1.0, 1), ("auto", 1.0, 0), ("auto", 2 * WORTH, 1)])
def test_what_cannot_be_compiled_is_said_where_it_would_have_been(mode: str, seconds: float, lines: int) -> None:
    method, _ = method_case("aekd", ("resnet8", "resnet14"))
    told: list[tuple[str, str]] = []
    optimizer = torch.optim.SGD(method.learner.parameters(), lr=0.1)
    stepper = EagerStepper(method, optimizer, lambda level, text: told.append((level, text)), mode)  # type: ignore[arg-type]
    stepper.consider(seconds)
    stepper.consider(seconds)
    assert [level for level, _ in told] == ["info"] * lines
    assert all("quadratic program" in text for _, text in told)
