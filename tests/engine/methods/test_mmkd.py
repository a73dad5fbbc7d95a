"""MMKD's meta step leaves the student alone, and its weights learn."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from support.nets import mmkd_case, random_batch, sgd

from engine.methods.base import Hard
from engine.methods.step import accounted
from engine.stepping import Stepper

FINITE = torch.ones(3, dtype=torch.bool)  # every part of a step


def frozen(method, optimizer) -> dict[str, bytes]:
    """Every bit of the student's side and of the random generators."""
    tensors = dict(method.learner.state_dict())
    for number, parameter in enumerate(method.learner.parameters()):
        tensors |= {f"optimizer.{number}.{k}": v for k, v in optimizer.state[parameter].items()}
        tensors[f"grad.{number}"] = parameter.grad
    state = {name: value.detach().numpy().tobytes() for name, value in tensors.items() if value is not None}
    state["torch"] = torch.get_rng_state().numpy().tobytes()
    state["numpy"] = np.random.get_state()[1].tobytes()
    state["python"] = repr(random.getstate()).encode()
    return state


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_meta_step_leaves_every_bit_of_the_student(dtype: torch.dtype) -> None:
    method, panel = mmkd_case(dtype=dtype)
    optimizer = sgd(method)
    batch, teachers = random_batch(panel, 8, seed=1, dtype=dtype)
    stepper = Stepper(method, optimizer)
    stepper.train(batch, teachers)
    hard, hard_teachers = random_batch(panel, 8, seed=2, dtype=dtype)
    before = frozen(method, optimizer)
    weights = [w.clone() for w in method.weights]
    method.learn(stepper.meta_gradient(Hard(hard, hard_teachers)))
    assert frozen(method, optimizer) == before
    assert all(not torch.equal(w, old) for w, old in zip(method.weights, weights, strict=True))


def test_meta_step_comes_every_so_many_steps_once_the_buffer_is_full() -> None:
    method, panel = mmkd_case(dtype=torch.float32)
    stepper = Stepper(method, sgd(method))
    metas = []
    for number in range(11):
        batch, teachers = random_batch(panel, 8, seed=number, dtype=torch.float32)
        metas.append(stepper(batch, teachers, number)[1] is not None)
    assert [number for number, taken in enumerate(metas) if taken] == [4, 9]


def test_training_weighs_by_the_nets_but_does_not_teach_them() -> None:
    method, panel = mmkd_case()
    batch, teachers = random_batch(panel, 8, seed=1)
    step = method.step(batch, teachers)
    step.loss.backward()
    assert all(w.grad is None for w in method.weights)
    assert torch.allclose(step.logit_weights.sum(1), torch.ones(8, dtype=torch.float64))
    assert torch.allclose(step.feature_weights.sum(1), torch.ones(8, dtype=torch.float64))
    expected = step.ce + step.logit + 100 * step.feature
    assert torch.allclose(step.loss, expected)


def test_state_restores_weights_moments_and_buffer() -> None:
    method, panel = mmkd_case(dtype=torch.float32)
    optimizer = sgd(method)

    def go(m, numbers) -> list[float]:
        losses = []
        for number in numbers:
            batch, teachers = random_batch(panel, 8, seed=number, dtype=torch.float32)
            step = m.step(batch, teachers)
            step = accounted(step, FINITE, batch.labels, len(teachers))
            hard = m.after_step(batch, teachers, step, number)
            if hard is not None:
                found = Stepper(m, optimizer).meta_gradient(hard)
                m.learn(found)
                losses.append(float(found.told.outer_loss))
        return losses

    go(method, range(6))
    state = {name: value.clone() for name, value in method.state().items()}
    learner = {name: value.clone() for name, value in method.learner.state_dict().items()}
    first = go(method, range(6, 16))
    other, _ = mmkd_case(dtype=torch.float32)
    other.learner.load_state_dict(learner)
    other.load_state(state)
    optimizer = sgd(other)
    assert go(other, range(6, 16)) == first
    assert len(first) == 2
