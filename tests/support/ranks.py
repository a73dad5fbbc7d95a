"""Trainings on several processes that average over gloo, and the same in one process on the joined batches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from engine.data import Batch
from engine.meta.hard_buffer import HardBuffer
from engine.meta.hypergradient import hypergradient
from engine.meta.sgd import Sgd, momenta_of
from engine.methods import Method
from engine.methods.base import MetaGradient, sizes_of
from engine.methods.mmkd import Mmkd
from engine.models import Output, paired
from engine.models.panel import TeacherPanel
from engine.randomness import permutation
from engine.ranks import ProcessGroup
from engine.stepping import Stepper
from support.nets import method_case, random_batch

BATCH = 8  # on each rank
META = {"every": 4, "buffer_size": 16, "lr": 0.01}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ce": ("ce", {}),
    "aver": ("aver", {}),
    "kd": ("kd", {}),
    "fitnet": ("fitnet", {"beta": 1}),
    "ebkd": ("ebkd", {}),
    "camkd": ("camkd", {"beta": 1}),
    "aekd": ("aekd", {"beta": 1}),
    "mmkd": ("mmkd", {"beta": 1, "meta": META}),
    "joint": ("mmkd", {"beta": 1, "meta": {"learning": "joint", "lr": 0.01}}),
}
Shard = tuple[Batch, list[Output]]
Found = dict[str, Tensor]


def case(name: str, batch_norm: bool) -> tuple[Method, TeacherPanel, torch.optim.SGD]:
    """A method with a ResNet-8, its BatchNorm taken out on request, in float64."""
    method, settings = CASES[name]
    teachers = {"ce": (), "kd": ("resnet8",)}.get(name, ("resnet8", "vgg8"))
    built, panel = method_case(method, teachers, **settings)
    if not batch_norm:
        _without_batch_norm(built.learner)
    built.learner.train()
    parameters = built.learner.parameters()
    return built, panel, torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)


def _without_batch_norm(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.Identity())
        _without_batch_norm(child)


_shards: dict[tuple[int, int, int], Shard] = {}  # the teachers of a number are the same in every case


def shard(panel: TeacherPanel, number: int, rank: int) -> Shard:
    key = len(panel.channels), number, rank
    if key not in _shards:
        _shards[key] = random_batch(panel, BATCH, 1000 * number + rank)
    return _shards[key]


class Recording(Stepper):
    """Keeps every hyper-gradient."""

    def __init__(self, method: Method, optimizer: torch.optim.SGD) -> None:
        super().__init__(method, optimizer)
        self.hypergradients: list[Tensor] = []

    def meta_gradient(self, hard: Any) -> MetaGradient:
        found = super().meta_gradient(hard)
        self.hypergradients.append(torch.cat([part.flatten() for part in found.gradient]))
        return found


def end_of(method: Method, hypergradients: Sequence[Tensor]) -> Found:
    """What must be equal."""
    found = {f"student.{name}": value.detach() for name, value in method.learner.named_parameters()}
    if isinstance(method, Mmkd):
        found |= {f"nets.{name}": value.detach() for name, value in method.nets.named_parameters()}
    return found | {f"hypergradient.{n}": value for n, value in enumerate(hypergradients)}


def train_rank(rank: int, size: int, cases: Sequence[tuple[str, bool]], steps: int, folder: Path) -> None:
    """A rank's process: trains every case, and writes what it came to."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": (folder / "port").read_text()}
    ranks = ProcessGroup()
    found = {}
    for name, batch_norm in cases:
        method, panel, optimizer = case(name, batch_norm)
        method.ranks = ranks
        stepper = Recording(method, optimizer)
        for number in range(steps):
            stepper(*shard(panel, number, rank), number)
        found[name, batch_norm] = end_of(method, stepper.hypergradients)
    torch.save(found, folder / f"rank-{rank}.pt")
    ranks.close()


def train_joined(name: str, batch_norm: bool, size: int, count: int) -> Found:
    """One process, no averages: the loss of a step is that of all ranks' batches together, differentiated as one."""
    method, panel, optimizer = case(name, batch_norm)
    buffers = [HardBuffer(META["buffer_size"]) for _ in range(size)]  # type: ignore[arg-type]
    hypergradients = []
    for number in range(count):
        shards = [shard(panel, number, rank) for rank in range(size)]
        if not isinstance(method, Mmkd) and not batch_norm:  # nothing in them sees more than one sample: one batch it is
            batch, outputs = _joined(shards)
            steps = [method.step(batch, outputs)]
        else:
            steps = [method.step(*part) for part in shards]
        optimizer.zero_grad()
        torch.stack([step.loss for step in steps]).mean().backward()
        optimizer.step()
        if not isinstance(method, Mmkd):
            continue
        if method.joint:
            method.adam.step()
            method.adam.zero_grad()
            continue
        places, drawn = (permutation(META["buffer_size"], 0, f"buffer {what}", number) for what in ("places", "draw"))  # type: ignore[arg-type]
        for buffer, (batch, outputs), step in zip(buffers, shards, steps, strict=True):
            tensors = [tensor for output in outputs for tensor in output]
            buffer.offer([batch.images, batch.labels, *tensors], step.logits.argmax(1) != batch.labels, places)
        if (number + 1) % META["every"] == 0 and buffers[0].full:
            hard = [buffer.draw(drawn[:BATCH]) for buffer in buffers]
            gradient = _joined_hypergradient(method, hard, optimizer)
            hypergradients.append(torch.cat([part.flatten() for part in gradient]))
            for weight, part in zip(method.weights, gradient, strict=True):
                weight.grad = part
            method.adam.step()
            method.adam.zero_grad()
    return end_of(method, hypergradients)


def _joined(shards: Sequence[Shard]) -> Shard:
    images, labels = (torch.cat([getattr(batch, what) for batch, _ in shards]) for what in ("images", "labels"))
    teachers = zip(*(outputs for _, outputs in shards), strict=True)
    return Batch(images, labels), [Output(*(torch.cat(parts) for parts in zip(*same, strict=True))) for same in teachers]


def _joined_hypergradient(method: Mmkd, hard: Sequence[list[Tensor]], optimizer: torch.optim.SGD) -> list[Tensor]:
    names, parameters = zip(*method.learner.named_parameters(), strict=True)
    shards = []
    for images, labels, *rest in hard:
        shards.append((Batch(images, labels), paired(rest)))

    def forward(values: Sequence[Tensor], part: Shard) -> Any:
        own = {name: buffer.clone() for name, buffer in method.learner.named_buffers()}
        arguments = part[0].images, sizes_of(part[1])
        return functional_call(method.learner, {**dict(zip(names, values, strict=True)), **own}, arguments)

    def matching(values: Sequence[Tensor]) -> Tensor:
        losses = []
        for part in shards:
            output = forward(values, part)
            losses.append(method.matching_loss(method.match(output, part[1], method.weigh(output, part[1]))))
        return torch.stack(losses).mean()

    def classification(values: Sequence[Tensor]) -> Tensor:
        return torch.stack([F.cross_entropy(forward(values, part).logits, part[0].labels) for part in shards]).mean()

    momenta = momenta_of(optimizer, parameters)
    steps = [matching, matching, classification]
    return hypergradient(steps, classification, parameters, momenta, method.weights, Sgd.of(optimizer)).gradient
