"""The hyper-gradient against an independent computation: autograd through all inner steps, unrolled."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from support.device import DEVICE
from support.nets import mmkd_case, random_batch, sgd
from torch import Tensor
from torch.func import functional_call

from engine.methods.base import Hard, sizes_of
from engine.methods.mmkd import Mmkd
from engine.stepping import Stepper


def unrolled(method: Mmkd, batch, teachers, optimizer) -> list[Tensor]:
    """d outer / d weights by one backward through everything, written after torch.optim.SGD's documentation."""
    (group,) = optimizer.param_groups
    lr, mu, wd = group["lr"], group["momentum"], group["weight_decay"]
    names = [name for name, _ in method.learner.named_parameters()]
    theta = {name: p.detach().clone().requires_grad_() for name, p in method.learner.named_parameters()}
    velocity = {}
    for name, p in method.learner.named_parameters():
        buffer = optimizer.state[p].get("momentum_buffer") if p in optimizer.state else None
        velocity[name] = torch.zeros_like(p) if buffer is None else buffer.clone()

    def run(values: dict[str, Tensor]):
        buffers = {name: b.clone() for name, b in method.learner.named_buffers()}
        return functional_call(method.learner, {**values, **buffers}, (batch.images, sizes_of(teachers)))

    for number in range(method.settings.meta.match_steps + 1):
        out = run(theta)
        if number < method.settings.meta.match_steps:
            a = method.nets.logit_weights([t.logits for t in teachers], out.logits)
            b = method.nets.feature_weights([t.features for t in teachers], out.features)
            t_ = method.settings.temperature
            loss = 0.0
            for k, teacher in enumerate(teachers):
                kl = F.kl_div(
                    F.log_softmax(out.logits / t_, 1), F.log_softmax(teacher.logits / t_, 1), log_target=True, reduction="none"
                )
                target = teacher.features
                if target.shape[2] > out.regressed[k].shape[2]:
                    target = F.adaptive_avg_pool2d(target, out.regressed[k].shape[2:])
                distance = F.mse_loss(out.regressed[k], target, reduction="none").mean((1, 2, 3))
                loss = loss + method.settings.alpha * (a[:, k] * kl.sum(1) * t_**2).mean()
                loss = loss + method.settings.beta * (b[:, k] * distance).mean()
        else:
            loss = F.cross_entropy(out.logits, batch.labels)
        gradients = torch.autograd.grad(loss, list(theta.values()), create_graph=True, allow_unused=True)
        after = {}
        for name, g in zip(names, gradients, strict=True):
            d = (torch.zeros_like(theta[name]) if g is None else g) + wd * theta[name]
            velocity[name] = mu * velocity[name] + d
            after[name] = theta[name] - lr * (d + mu * velocity[name] if group["nesterov"] else velocity[name])
        theta = after
    outer = F.cross_entropy(run(theta).logits, batch.labels)
    return list(torch.autograd.grad(outer, method.weights))


@pytest.mark.parametrize(
    ("momentum", "nesterov", "options"),
    [
        (0.9, True, {}),
        (0.9, False, {}),
        (0.0, False, {}),
        (0.9, True, {"regressor": "bottleneck", "gram": "raw"}),
        (0.9, True, {"alpha": 0.3, "beta": 7.0, "temperature": 2.0}),
    ],
)
def test_equals_a_full_unroll_on_real_architectures(momentum: float, nesterov: bool, options: dict) -> None:
    method, panel = mmkd_case(device=DEVICE, **options)
    optimizer = sgd(method, momentum, nesterov)
    warm, warm_teachers = random_batch(panel, 8, seed=1)
    method.step(warm, warm_teachers).loss.backward()
    optimizer.step()  # fills the momentum
    batch, teachers = random_batch(panel, 8, seed=2)
    expected = unrolled(method, batch, teachers, optimizer)
    got = Stepper(method, optimizer).meta_gradient(Hard(batch, teachers)).gradient
    largest = max(e.abs().max() for e in expected)
    assert largest > 0
    for ours, theirs in zip(got, expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-9 * max(theirs.abs().max(), 1e-6 * largest)
