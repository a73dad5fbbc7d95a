"""How far bfloat16's gradients and hyper-gradients are from float32's, along a whole training, and whether the errors add up.

    python benchmarks/rounding.py [PRESET] [--epochs N] [--every N]
    python benchmarks/rounding.py [PRESET] --seeds 25 [--first 0] [--epochs 1]

The training is in float32, of `quickstart` if no preset is named, with its teachers, made or found in the teacher store. At every
tenth step the gradient, and at each meta step the hyper-gradient, is computed in bfloat16 as well, from the same weights, batch
and teachers' outputs. A line for each epoch and kind:

    error     of one gradient: |d| / |g|, d being the difference and g float32's; root mean square of the epoch
    cosine    between the two: the least of the epoch
    added     the errors of all gradients until then added up, in relation to the sum of these: |sum d| / |sum g|
    chance    what "added" is where errors know nothing of each other: sqrt(sum |d|^2) / |sum g|

Before them a line for each teacher: how far its logits are from themselves in bfloat16, |d| / |logits|, their Kullback-Leibler
divergence at temperature 4, and the two accuracies, on the training images of one epoch.

As long as "added" is about what chance makes it, rounding is one more noise of small batches, and pulls nowhere. A processor
without instructions for bfloat16 rounds as benchmarks/rounded_convolutions.py says.

With --seeds, students of so many seeds learn in float32 and in bfloat16, side by side, from the same batches and the same outputs
of the teachers, in float32, for the first epochs. A line for each: mean difference of training loss and accuracy, with its
standard error.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from engine import find_preset, load_preset, paths
from engine.data import Batch, Images, load_images
from engine.device import bf16_is_fast, resolve_device
from engine.events import EpochEnded, Event
from engine.methods.base import Hard, MetaGradient
from engine.methods.losses import divergences
from engine.methods.make import Plan
from engine.methods.mmkd import Mmkd
from engine.methods.step import Step
from engine.models import Output
from engine.models.panel import TeacherPanel
from engine.optimizers import SGD
from engine.preset import Preset
from engine.stepping import Stepper
from engine.teachers.store import TeacherStore
from engine.teachers.train import Classroom
from engine.trainer import Phase, Trainer


class Beside:
    """One kind of gradient, in float32 and in bfloat16."""

    def __init__(self) -> None:
        self.sum: Tensor | float = 0.0
        self.sum_of_errors: Tensor | float = 0.0
        self.square_of_errors = 0.0
        self.of_epoch: list[tuple[float, float]] = []  # error, cosine

    def add(self, wide: Sequence[Tensor], narrow: Sequence[Tensor]) -> None:
        """The same gradient twice."""
        g, other = (torch.cat([tensor.detach().double().flatten() for tensor in one]) for one in (wide, narrow))
        d = other - g
        self.sum, self.sum_of_errors = self.sum + g, self.sum_of_errors + d
        self.square_of_errors += d.square().sum().item()
        self.of_epoch.append(((d.norm() / g.norm()).item(), torch.cosine_similarity(g, other, dim=0).item()))

    def take(self) -> str:
        """The epoch's line."""
        errors, cosines = zip(*self.of_epoch, strict=True)
        error = (sum(e * e for e in errors) / len(errors)) ** 0.5
        whole = torch.linalg.vector_norm(torch.as_tensor(self.sum)).item()
        added = torch.linalg.vector_norm(torch.as_tensor(self.sum_of_errors)).item() / whole
        self.of_epoch = []
        return f"{error:8.4f} {min(cosines):9.5f} {added:8.4f} {self.square_of_errors**0.5 / whole:8.4f}"


class Watched(Stepper):
    """Trains in float32, and computes now and then in bfloat16, too."""

    def __init__(self, method: Mmkd, optimizer: torch.optim.SGD, every: int) -> None:
        super().__init__(method, optimizer)
        self.kinds: dict[str, Beside] = defaultdict(Beside)
        self.every, self.count = every, 0

    def train(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        if self.count % self.every == 0:
            self.kinds["gradient"].add(*(self._gradient(batch, teachers, bf16) for bf16 in (False, True)))
        self.count += 1
        return super().train(batch, teachers)

    def _gradient(self, batch: Batch, teachers: Sequence[Output], bf16: bool) -> Sequence[Tensor]:
        learner = self.method.learner
        before = [buffer.clone() for buffer in learner.buffers()]
        learner.bf16 = bf16
        # A bias before BatchNorm has gradient 0, and rounding errors for nothing.
        wanted = [parameter for name, parameter in learner.named_parameters() if not name.endswith(".0.bias")]
        found = torch.autograd.grad(self.method.step(batch, teachers).loss, wanted)
        learner.bf16 = False
        torch._foreach_copy_(list(learner.buffers()), before)
        return found

    def meta_gradient(self, hard: Hard) -> MetaGradient:
        self.method.learner.bf16 = True
        narrow = super().meta_gradient(hard).gradient
        self.method.learner.bf16 = False
        found = super().meta_gradient(hard)
        assert isinstance(self.method, Mmkd)
        half = len(list(self.method.nets.logit.parameters()))
        for name, part in (("of logit weights", slice(half)), ("of feature weights", slice(half, None))):
            self.kinds[name].add(found.gradient[part], narrow[part])
        return found


@torch.no_grad()
def teachers_apart(panel: TeacherPanel, images: Images, labels: Sequence[str], batch_size: int) -> None:
    """Says of each teacher what bfloat16 makes of it."""
    narrow = TeacherPanel(panel.teachers, bf16=True)
    said: dict[str, list[list[Tensor]]] = {label: [] for label in labels}
    for batch in images.train.shuffled(batch_size, 0, 0, images.augmenting(True)):
        for label, wide, other in zip(labels, panel(batch.images), narrow(batch.images), strict=True):
            said[label].append([wide.logits, other.logits, batch.labels])
    for label, batches in said.items():
        wide, other, truth = (torch.cat(column) for column in zip(*batches, strict=True))
        apart = (other - wide).norm() / wide.norm()
        kl = divergences([wide], other, 4.0).mean() / 16
        right = [f"{(one.argmax(1) == truth).float().mean():.2%}" for one in (wide, other)]
        print(f"teacher {label}: logits differ by {apart:.2%}, KL {kl:.1e}, accuracy {right[0]} and {right[1]}", flush=True)


def side_by_side(plan: Plan, preset: Preset, panel: TeacherPanel, images: Images, seeds: range, epochs: int) -> None:
    """Says how far bfloat16's first epochs are from float32's."""
    recipe = preset.train
    found: dict[int, list[list[float]]] = defaultdict(list)  # epoch: of each seed, the differences of loss and accuracy
    for seed in seeds:
        steppers = []
        for bf16 in (False, True):
            method = replace(plan, bf16=bf16).build(seed, panel.device)
            method.learner.train()
            settings = {"momentum": recipe.momentum, "weight_decay": recipe.weight_decay, "nesterov": recipe.nesterov}
            steppers.append(Stepper(method, SGD(list(method.learner.parameters()), lr=recipe.lr, **settings)))
        number = 0
        for epoch in range(epochs):
            told: list[list[Tensor]] = [[], []]
            for batch in images.train.shuffled(recipe.batch_size, seed, epoch, images.augmenting(recipe.augment)):
                teachers = panel.of(batch)
                for stepper, steps in zip(steppers, told, strict=True):
                    stepper.optimizer.param_groups[0]["lr"] = recipe.lr_at(epoch)
                    step, _ = stepper(batch, teachers, number)
                    steps.append(torch.stack([step.loss.detach(), (step.logits.argmax(1) == batch.labels).float().mean()]))
                number += 1
            wide, narrow = (torch.stack(steps).double().mean(0) for steps in told)
            found[epoch].append((narrow - wide).tolist())
            print(f"seed {seed} epoch {epoch + 1}: {found[epoch][-1][0]:+.4f} {found[epoch][-1][1]:+.2%}", flush=True)
    for epoch, differences in found.items():
        loss, accuracy = torch.tensor(differences, dtype=torch.float64).unbind(1)
        errors = [one.std() / len(one) ** 0.5 for one in (loss, accuracy)]
        said = f"loss {loss.mean():+.3f} ± {errors[0]:.3f}, accuracy {accuracy.mean():+.2%} ± {errors[1]:.2%}"
        print(f"epoch {epoch + 1}, {len(loss)} seeds: {said}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", nargs="?", default="quickstart")
    parser.add_argument("--epochs", type=int, help="instead of the preset's")
    parser.add_argument("--every", type=int, default=10, help="steps between two training gradients")
    parser.add_argument("--seeds", type=int, default=0, help="students that learn in both, side by side")
    parser.add_argument("--first", type=int, default=0, help="the first one's seed")
    asked = parser.parse_args()

    overrides = ["hardware.precision=fp32", *([f"train.epochs={asked.epochs}"] if asked.epochs else [])]
    preset = load_preset(find_preset(asked.preset), overrides)
    device = resolve_device(preset.hardware)
    if device.type == "cpu" and not bf16_is_fast(device):
        import rounded_convolutions  # noqa: F401
    images = load_images(preset.dataset, paths.data_root(), device)

    def emit(event: Event) -> None:
        if isinstance(event, EpochEnded) and event.phase == "distil":
            for name, kind in stepper.kinds.items():
                if kind.of_epoch:
                    print(f"{event.epoch + 1:5} {event.lr:7.4f}  {name:20}{kind.take()}", flush=True)

    def stepper_of(method: Mmkd, optimizer: torch.optim.SGD) -> Watched:
        nonlocal stepper
        stepper = Watched(method, optimizer, asked.every)
        return stepper

    stepper: Watched
    classroom = Classroom(preset, images, TeacherStore(paths.teacher_store()), device, emit, poll=lambda trainer: None)
    labelled = enumerate(zip(preset.teacher_labels, preset.teachers, strict=True))
    teachers = [classroom.teacher(part, Phase("teacher", index, label)).model for index, (label, part) in labelled]
    panel, facts = TeacherPanel(teachers), images.facts
    plan = Plan(
        *(preset.method, preset.student.arch, facts.channels, images.classes, preset.train.batch_size, tuple(panel.channels)),
        size=facts.size,
    )
    print(f"{device}, torch {torch.__version__}, {preset.name}, seed {preset.seed}", flush=True)
    if asked.seeds:
        side_by_side(plan, preset, panel, images, range(asked.first, asked.first + asked.seeds), asked.epochs or 1)
        return
    teachers_apart(panel, images, preset.teacher_labels, preset.train.batch_size)
    print(f"epoch      lr  {'':20}{'error':>8} {'cosine':>9} {'added':>8} {'chance':>8}", flush=True)
    Trainer(
        plan.build(preset.seed, device),
        images,
        panel,
        preset.train,
        preset.evaluate,
        seed=preset.seed,
        phase=Phase("distil", 0, preset.student.arch),
        emit=emit,
        poll=lambda trainer: None,
        stepper=stepper_of,
    ).run()


if __name__ == "__main__":
    main()
