"""Small real set-ups that several tests share."""

from __future__ import annotations

import torch

from engine.data import Batch
from engine.methods import Method, make_method
from engine.methods.mmkd import Mmkd
from engine.models import Output, build_model
from engine.models.panel import TeacherPanel
from engine.preset import METHOD_PARTS, MetaPart, MmkdPart

CPU = torch.device("cpu")
CLASSES = 5
SIZE = 16


def mmkd_case(
    batch_size: int = 8,
    arch: str = "resnet8",
    teachers: tuple[str, ...] = ("resnet14", "vgg8"),
    dtype: torch.dtype = torch.float64,
    device: torch.device = CPU,
    **settings: object,
) -> tuple[Mmkd, TeacherPanel]:
    """MMKD with a student and teachers of real architectures, random weights."""
    panel = TeacherPanel([build_model(name, 3, CLASSES, seed).to(device, dtype) for seed, name in enumerate(teachers)])
    part = MmkdPart(name="mmkd", **{"meta": MetaPart(buffer_size=2 * batch_size)} | settings)
    student = build_model(arch, 3, CLASSES, 9)
    method = make_method(part, student, panel.channels, classes=CLASSES, batch_size=batch_size, seed=0, device=device)
    assert isinstance(method, Mmkd)
    method.learner.to(dtype)
    method.nets.to(dtype)
    return method, panel


def method_case(
    name: str, teachers: tuple[str, ...], dtype: torch.dtype = torch.float64, bf16: bool = False, **settings: object
) -> tuple[Method, TeacherPanel]:
    """Any method with a ResNet-8 and teachers of random weights, for batches of 8."""
    panel = TeacherPanel([build_model(arch, 3, CLASSES, seed).to(dtype) for seed, arch in enumerate(teachers)])
    for number, teacher in enumerate(panel.teachers):  # predictions that are not all alike
        for parameter in dict(teacher.named_children()).get("fc", getattr(teacher, "classifier", teacher)).parameters():
            parameter.mul_(3.0 + 2 * number)
    method = make_method(
        METHOD_PARTS[name].model_validate({"name": name} | settings),  # type: ignore[arg-type]
        build_model("resnet8", 3, CLASSES, 9),
        panel.channels,
        classes=CLASSES,
        batch_size=8,
        seed=0,
        device=CPU,
        bf16=bf16,
        heads=[teacher.classify for teacher in panel.teachers],
    )
    return method.to(dtype), panel


def random_batch(panel: TeacherPanel, size: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Batch, list[Output]]:
    """Noise for images, and what the teachers say of it, where they are."""
    device = next(panel.teachers[0].parameters()).device
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, SIZE, SIZE, generator=generator, dtype=torch.float64).to(dtype)
    labels = torch.randint(CLASSES, (size,), generator=generator)
    batch = Batch(images.to(device), labels.to(device))
    return batch, panel(batch.images)


def sgd(method: Mmkd, momentum: float = 0.9, nesterov: bool = True) -> torch.optim.SGD:
    """The paper's optimiser for the learner."""
    return torch.optim.SGD(method.learner.parameters(), lr=0.05, momentum=momentum, weight_decay=5e-4, nesterov=nesterov)
