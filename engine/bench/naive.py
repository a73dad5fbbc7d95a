"""MMKD written naively after method.md, as the public code does it: the benchmark's point of departure.

Plain modules, fp32, contiguous. Every inner step and every replay of one runs all teachers on the same batch again; state is
saved and restored by deep copies; the walk back recomputes each inner step and differentiates it twice. No step is slower than
that description makes it. Under Nesterov the hyper-gradient omits the Nesterov terms, as the public code's does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.models import Classifier, Output


class NaiveWeightNet(nn.Module):
    """[B, inputs] -> [B, teachers]: two linear layers and a softmax."""

    def __init__(self, inputs: int, teachers: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, inputs // 2)
        self.output = nn.Linear(inputs // 2, teachers)

    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(self.output(F.relu(self.hidden(x))), dim=1)


class NaiveNets(nn.Module):
    """The logit weights from all logits, the feature weights from the rows of the raw Gram matrices."""

    def __init__(self, teachers: int, classes: int, batch: int) -> None:
        super().__init__()
        self.logit = NaiveWeightNet(classes * (teachers + 1), teachers)
        self.feature = NaiveWeightNet(batch * (teachers + 1), teachers)

    def forward(self, teachers: Sequence[Output], student: Output) -> tuple[Tensor, Tensor]:
        logits = [t.logits for t in teachers] + [student.logits.detach()]
        rows = [f.flatten(1) for f in [t.features for t in teachers] + [student.features.detach()]]
        return self.logit(torch.cat(logits, 1)), self.feature(torch.cat([m @ m.t() for m in rows], 1))


@dataclass(frozen=True, slots=True)
class Recorded:
    """An inner step, so that it can be walked back: the state before it, and its loss as a function of the state."""

    parameters: list[Tensor]
    momenta: list[Tensor | None]
    loss: Callable[[], Tensor]


class MetaSgd(torch.optim.SGD):
    """SGD that records its steps, and walks back over them to the gradient of what came after with respect to weights."""

    tape: list[Recorded]

    def clear(self) -> None:
        """Gradients are zeros, not None: weight decay and momentum act on a parameter that a loss does not reach, too."""
        for p in self.param_groups[0]["params"]:
            p.grad = torch.zeros_like(p)

    def recorded_step(self, loss: Callable[[], Tensor]) -> None:
        """One step on a loss, recorded."""
        parameters = self.param_groups[0]["params"]
        momenta = [self.state[p].get("momentum_buffer") for p in parameters]
        before = Recorded([p.detach().clone() for p in parameters], [None if m is None else m.clone() for m in momenta], loss)
        self.clear()
        loss().backward()  # type: ignore[no-untyped-call]
        self.step()
        self.tape.append(before)

    def walk_back(self, weights: Sequence[Tensor]) -> None:
        """After the outer loss's backward: adds the hyper-gradient to `grad` of the weights, and empties the tape."""
        group = self.param_groups[0]
        parameters: list[Tensor] = group["params"]
        lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
        p = [torch.zeros_like(t) if t.grad is None else t.grad.clone() for t in parameters]
        q = [torch.zeros_like(t) for t in parameters]
        while self.tape:
            recorded = self.tape.pop()
            with torch.no_grad():
                for parameter, value, buffer in zip(parameters, recorded.parameters, recorded.momenta, strict=True):
                    parameter.copy_(value)
                    self.state[parameter]["momentum_buffer"] = buffer
            u = [b - lr * a for a, b in zip(p, q, strict=True)]
            gradients = torch.autograd.grad(recorded.loss(), parameters, create_graph=True, allow_unused=True)
            reached = [(g, v) for g, v in zip(gradients, u, strict=True) if g is not None]
            outputs, cotangents = zip(*reached, strict=True)
            products = torch.autograd.grad(outputs, [*weights, *parameters], cotangents, allow_unused=True)
            for weight, product in zip(weights, products, strict=False):
                if product is not None:
                    weight.grad = product if weight.grad is None else weight.grad + product
            for i, product in enumerate(products[len(weights) :]):
                p[i] = p[i] + decay * u[i] if product is None else p[i] + decay * u[i] + product
                q[i] = momentum * u[i]


class NaiveLearner(nn.Module):
    """All that the student's optimiser updates."""

    def __init__(self, student: Classifier, regressors: Sequence[nn.Module]) -> None:
        super().__init__()
        self.student = student
        self.regressors = nn.ModuleList(regressors)


class NaiveMmkd:
    """The student's training step and the meta step."""

    def __init__(
        self,
        learner: NaiveLearner,
        teachers: Sequence[nn.Module],
        nets: NaiveNets,
        optimizer: MetaSgd,
        *,
        alpha: float = 1.0,
        beta: float = 100.0,
        temperature: float = 4.0,
        buffer: int = 256,
        match_steps: int = 2,
    ) -> None:
        self.learner, self.teachers, self.nets, self.optimizer = learner.train(), teachers, nets, optimizer
        self.alpha, self.beta, self.temperature, self.match_steps = alpha, beta, temperature, match_steps
        self.adam = torch.optim.Adam(nets.parameters(), lr=1e-3, weight_decay=1e-4)
        self.buffer_size = buffer
        self.hard_images: Tensor | None = None
        self.hard_labels: Tensor | None = None

    def losses(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A batch [B, 3, H, W] -> the student's logits [B, C], L_logit and L_feat."""
        with torch.no_grad():
            said = [teacher(images) for teacher in self.teachers]
        student = self.learner.student(images)
        logit_weights, feature_weights = self.nets(said, student)
        logit: list[Tensor] = []
        feature: list[Tensor] = []
        for teacher, regressor in zip(said, self.learner.regressors, strict=True):
            logit.append(softened(teacher.logits, student.logits, self.temperature))
            source, target = student.features, teacher.features
            if source.shape[2] > target.shape[2]:
                source = F.adaptive_avg_pool2d(source, target.shape[2:])
            elif source.shape[2] < target.shape[2]:
                target = F.adaptive_avg_pool2d(target, source.shape[2:])
            feature.append(F.mse_loss(regressor(source), target, reduction="none").mean((1, 2, 3)))
        logit_loss = (logit_weights * torch.stack(logit, 1)).sum(1).mean()
        return student.logits, logit_loss, (feature_weights * torch.stack(feature, 1)).sum(1).mean()

    def train(self, images: Tensor, labels: Tensor) -> None:
        """An ordinary step; what the student gets wrong goes into the buffer."""
        logits, logit, feature = self.losses(images)
        loss = F.cross_entropy(logits, labels) + logit + self.beta * feature
        self.optimizer.clear()
        self.nets.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.collect(images, labels, logits)

    def collect(self, images: Tensor, labels: Tensor, logits: Tensor) -> None:
        """Fills the buffer, then lets misclassified samples replace random ones."""
        if self.hard_images is None or self.hard_labels is None:
            self.hard_images, self.hard_labels = images, labels
        elif len(self.hard_images) < self.buffer_size:
            self.hard_images = torch.cat([self.hard_images, images])[: self.buffer_size]
            self.hard_labels = torch.cat([self.hard_labels, labels])[: self.buffer_size]
        else:
            wrong = logits.argmax(1) != labels
            places = torch.randperm(self.buffer_size, device=images.device)[: int(wrong.sum())]
            self.hard_images[places], self.hard_labels[places] = images[wrong], labels[wrong]

    def meta(self, size: int) -> None:
        """A meta step on `size` samples of the buffer."""
        assert self.hard_images is not None
        assert self.hard_labels is not None
        chosen = torch.randperm(len(self.hard_images), device=self.hard_images.device)[:size]
        self.meta_gradient(self.hard_images[chosen], self.hard_labels[chosen])
        self.adam.step()

    def meta_gradient(self, images: Tensor, labels: Tensor) -> Tensor:
        """Leaves the hyper-gradient in `grad` of the nets' parameters, the learner as it was; returns the outer loss."""
        state = copy.deepcopy(self.learner.state_dict())
        optimizer_state = copy.deepcopy(self.optimizer.state_dict())
        self.optimizer.tape = []

        def matching() -> Tensor:
            _, logit, feature = self.losses(images)
            return self.alpha * logit + self.beta * feature

        def classification() -> Tensor:
            return F.cross_entropy(self.learner.student(images).logits, labels)

        for _ in range(self.match_steps):
            self.optimizer.recorded_step(matching)
        self.optimizer.recorded_step(classification)
        self.optimizer.clear()
        self.nets.zero_grad()
        outer = classification()
        outer.backward()  # type: ignore[no-untyped-call]
        self.optimizer.walk_back(list(self.nets.parameters()))
        self.learner.load_state_dict(state)
        self.optimizer.load_state_dict(optimizer_state)
        return outer.detach()


def naive_average(
    student: Classifier, teachers: Sequence[nn.Module], optimizer: torch.optim.SGD, images: Tensor, labels: Tensor
) -> None:
    """A step of equal weights: cross entropy and the mean of the teachers' KL divergences."""
    with torch.no_grad():
        said = [teacher(images) for teacher in teachers]
    logits = student(images).logits
    kl = torch.stack([softened(t.logits, logits, 4.0) for t in said])
    loss = F.cross_entropy(logits, labels) + kl.mean()
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def softened(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher || student) of softened logits: [B, C] and [B, C] -> [B]."""
    log_student = F.log_softmax(student / temperature, dim=1)
    divergence = F.kl_div(log_student, F.softmax(teacher / temperature, dim=1), reduction="none").sum(1)
    return divergence * temperature**2
