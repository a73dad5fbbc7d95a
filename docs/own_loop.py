"""MMKD in a training loop of one's own, with torchvision's networks: `python docs/own_loop.py`. See docs/library.md."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torchvision import models

import engine

CLASSES, BATCH = 10, 32


def distil(student: nn.Module, teachers: Iterable[nn.Module], batches: Iterable[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Trains `student` [B, 3, H, W] -> [B, CLASSES] from `teachers`; the mean logit weights [K] after each meta step."""
    batches = iter(batches)
    images, labels = next(batches)
    # Any module that gives logits will do: where its last feature map is, is found by watching a pass.
    pupil = engine.tapped(student, images[:2])
    panel = engine.TeacherPanel([engine.tapped(teacher, images[:2]) for teacher in teachers])
    settings = engine.MmkdPart(name="mmkd", beta=10, meta=engine.MetaPart(every=2, buffer_size=2 * BATCH))
    method = engine.make_method(
        settings, pupil, panel.channels, classes=CLASSES, batch_size=BATCH, seed=0, device=images.device
    )  # the student, a regressor for each teacher, the two weight networks
    optimizer = torch.optim.SGD(method.learner.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
    stepper = engine.Stepper(method, optimizer)
    method.learner.train()
    told, number = [], 0
    while True:
        batch = engine.Batch(images, labels)
        step, meta = stepper(batch, panel.of(batch), number)  # the update, and every second time the meta step
        if meta is not None and step.logit_weights is not None:
            told.append(step.logit_weights.mean(0))
        if (found := next(batches, None)) is None:
            return told
        (images, labels), number = found, number + 1


def noise(count: int) -> Iterable[tuple[Tensor, Tensor]]:
    """In the place of a DataLoader."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        yield torch.randn(BATCH, 3, 64, 64, generator=generator), torch.randint(CLASSES, (BATCH,), generator=generator)


def main() -> None:
    teachers = [models.resnet18(num_classes=CLASSES), models.mobilenet_v3_small(num_classes=CLASSES, dropout=0.0)]
    for weights in distil(models.shufflenet_v2_x0_5(num_classes=CLASSES), teachers, noise(8)):
        print(" ".join(f"{weight:.3f}" for weight in weights.tolist()))


if __name__ == "__main__":
    main()
