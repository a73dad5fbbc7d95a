"""The naive form computes what the public code computes, and under plain momentum what the engine does."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.device import DEVICE
from support.golden_case import LAYERS, GoldenCase, load_case
from torch import Tensor, nn

from engine.bench.cases import CASES
from engine.bench.naive import MetaSgd, NaiveLearner, NaiveMmkd, NaiveNets
from engine.bench.networks import Setting
from engine.bench.subjects import make_subject
from engine.meta.sgd import Sgd, momenta_of
from engine.models import Output

SMALL = replace(CASES["imagenet"], teachers=("torchvision:resnet18",) * 2, batch=4, classes=10, size=32, buffer=4)
GOLDEN = sorted((Path(__file__).parents[2] / "golden").glob("*.npz"))


class Said(nn.Module):
    """A teacher that only has outputs, one for each of some batches."""

    def __init__(self, outputs: list[tuple[Tensor, Output]]) -> None:
        super().__init__()
        self.outputs = outputs
        self.asked = 0

    def forward(self, images: Tensor) -> Output:
        self.asked += 1
        return next(output for known, output in self.outputs if known is images)


def naive_of(case: GoldenCase) -> tuple[NaiveMmkd, Tensor, Tensor]:
    """The naive form after the case's ordinary training step, and the hard batch."""
    (first, said), (hard, said_hard) = case.batch(), case.batch("_hard")
    own = copy.deepcopy(case.method.learner)
    learner = NaiveLearner(own.student, list(own.regressors))
    config = case.config
    nets = NaiveNets(len(said), config["classes"], config["batch"]).double().to(DEVICE)
    nets.load_state_dict(case.method.nets.state_dict())
    names = ("lr", "momentum", "weight_decay", "nesterov")
    optimizer = MetaSgd(learner.parameters(), **{name: config[name] for name in names})
    teachers = [Said([(first.images, a), (hard.images, b)]) for a, b in zip(said, said_hard, strict=True)]
    settings = {name: config[name] for name in ("alpha", "beta", "temperature", "match_steps")}
    naive = NaiveMmkd(learner, teachers, nets, optimizer, **settings)
    naive.train(first.images, first.labels)
    return naive, hard.images, hard.labels


def gradients(naive: NaiveMmkd, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    naive.meta_gradient(images, labels)
    return {name: p.grad for name, p in naive.nets.named_parameters()}


def error(got: Tensor, expected: Tensor) -> float:
    scale = expected.abs().max().item()
    return (got - expected).abs().max().item() / (scale or 1.0)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_its_hypergradient_is_the_public_codes(path: Path) -> None:
    case = load_case(path)
    naive, images, labels = naive_of(case)
    got = gradients(naive, images, labels)
    for net in ("logit", "feature"):
        for theirs, ours in LAYERS.items():
            for kind in ("weight", "bias"):
                expected = case.tensor(f"reference.hypergradient.{net}_weight_net.{theirs}.{kind}")
                assert error(got[f"{net}.{ours}.{kind}"], expected) <= 1e-9


@pytest.mark.parametrize("path", [path for path in GOLDEN if "nesterov" not in path.stem], ids=lambda path: path.stem)
def test_without_nesterov_it_is_the_engines(path: Path) -> None:
    case = load_case(path)
    got = gradients(*naive_of(case))
    case.method.step(*case.batch()).loss.backward()
    case.optimizer.step()
    momenta = momenta_of(case.optimizer, list(case.method.learner.parameters()))
    result, _, _ = case.method.inner_steps(*case.batch("_hard"), momenta, Sgd.of(case.optimizer))
    names = [name for name, _ in case.method.nets.named_parameters()]
    for name, expected in zip(names, result.gradient, strict=True):
        assert error(got[name], expected) <= 1e-9


def test_a_meta_step_restores_the_learner_and_asks_the_teachers_in_each_step_and_each_replay() -> None:
    naive, images, labels = naive_of(load_case(GOLDEN[0]))
    before = copy.deepcopy((naive.learner.state_dict(), naive.optimizer.state_dict()))
    asked = naive.teachers[0].asked
    naive.meta_gradient(images, labels)
    assert naive.teachers[0].asked - asked == 2 * naive.match_steps
    torch.testing.assert_close((naive.learner.state_dict(), naive.optimizer.state_dict()), before, rtol=0, atol=0)


def test_the_buffer_holds_its_size_whatever_the_batches() -> None:
    naive, _, _ = naive_of(load_case(GOLDEN[0]))
    naive.buffer_size, naive.hard_images = 10, None
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        images, labels = torch.randn(6, 3, 8, 8, generator=generator), torch.randint(5, (6,), generator=generator)
        naive.collect(images, labels, torch.zeros(6, 5))
    assert len(naive.hard_images) == len(naive.hard_labels) == 10


def test_it_takes_both_of_its_steps_with_torchvisions_networks() -> None:
    setting = Setting(SMALL, torch.device("cpu"))
    subject = make_subject("naive", setting)
    assert subject.meta is not None
    subject.train()
    subject.meta()


@pytest.mark.parametrize("case", [CASES["tiny"], CASES["vgg"], SMALL], ids=lambda case: case.name)
def test_the_networks_it_runs_are_plain(case) -> None:
    """Torch's own layers, contiguous, in fp32: what the engine does to be fast must not reach the naive form."""
    setting = Setting(case, torch.device("cpu"))
    for network in (setting.student(), *setting.teachers()[:1]):
        leaves = [module for module in network.modules() if not list(module.children())]
        assert {type(module).__module__.partition(".")[0] for module in leaves} == {"torch"}
        for value in network.parameters():
            assert value.dtype == torch.float32
            assert value.is_contiguous()
