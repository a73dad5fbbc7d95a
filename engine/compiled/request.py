"""What a compiled step depends on, as data: another process makes it from that, and runs that ask for the same share it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor

from engine import paths
from engine.compiled.pure import Pure
from engine.meta.sgd import Sgd
from engine.methods.make import Plan
from engine.preset import METHOD

FORMAT = 1
# The packages whose code ends up in a compiled step.
CODE = ("compiled", "kernels", "meta", "methods", "models")
PARTS = ("train", "meta")


@dataclass(frozen=True, slots=True)
class Request:
    """A plan, the shapes that its first batch had, the optimiser's settings and the device."""

    method: dict[str, Any]
    arch: str
    images: tuple[int, int, int, int]  # [B, channels, H, W]
    classes: int
    teachers: tuple[tuple[int, int, int], ...]  # [c, h, w] of each one's feature map
    bf16: bool
    momentum: float
    weight_decay: float
    nesterov: bool
    device: str  # "cpu" or "cuda"
    threads: int
    features: str | None = None  # the student's

    @classmethod
    def of(cls, plan: Plan, images: Tensor, teachers: list[tuple[int, int, int]], sgd: Sgd) -> Request:
        """For steps on batches like `images`, with teachers' feature maps of these shapes."""
        return cls(
            method=plan.part.model_dump(mode="json"),
            arch=plan.arch,
            images=tuple(images.shape),  # type: ignore[arg-type]
            classes=plan.classes,
            teachers=tuple(teachers),
            bf16=plan.bf16,
            momentum=sgd.momentum,
            weight_decay=sgd.weight_decay,
            nesterov=sgd.nesterov,
            device=images.device.type,
            threads=torch.get_num_threads(),
            features=plan.features,
        )

    @classmethod
    def from_json(cls, text: str) -> Request:
        """What `to_json` wrote."""
        fields = json.loads(text)
        return cls(**fields | {"images": tuple(fields["images"]), "teachers": tuple(map(tuple, fields["teachers"]))})

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), sort_keys=True)

    def folder(self) -> Path:
        """Where its compiled steps are kept: elsewhere for each release of PyTorch, of our code, and each kind of processor."""
        where = torch.cuda.get_device_name() if self.device == "cuda" else torch.backends.cpu.get_cpu_capability()
        asked = [FORMAT, self.to_json(), torch.__version__, torchvision.__version__, _timm(), platform.machine(), where, _code()]
        return paths.cache_dir() / "compiled" / hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]

    def pure(self) -> Pure:
        """The steps, on a learner with arbitrary weights."""
        batch, channels, _, _ = self.images
        plan = Plan(
            part=METHOD.validate_python(self.method),
            arch=self.arch,
            channels=channels,
            classes=self.classes,
            teacher_channels=tuple(c for c, _, _ in self.teachers),
            batch_size=batch,
            bf16=self.bf16,
            size=self.images[2],
            features=self.features,
        )
        method = plan.build(0, torch.device(self.device))
        method.learner.train()
        return Pure(method, Sgd(0.0, self.momentum, self.weight_decay, self.nesterov))

    def example(self, pure: Pure) -> tuple[Any, ...]:
        """Arguments like those to come."""
        parameters, buffers, weights = pure.tensors()
        device, batch = torch.device(self.device), self.images[0]
        outputs: list[Tensor] = []
        for shape in self.teachers:
            outputs += [torch.zeros(batch, self.classes, device=device), torch.zeros(batch, *shape, device=device)]
        momenta = [torch.zeros_like(p) for p in parameters]
        labels = torch.zeros(batch, dtype=torch.int64, device=device)
        return (parameters, momenta, buffers, weights, parameters[0].new_zeros(()), torch.zeros(self.images, device=device),
                labels, *outputs)  # fmt: skip


@cache
def _timm() -> str | None:
    """The release of timm, whose networks' code may end up in a compiled step."""
    try:
        return importlib.metadata.version("timm")
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def _code() -> str:
    """A digest of the code that is compiled."""
    found = hashlib.sha256()
    for package in CODE:
        for path in sorted((Path(__file__).parents[1] / package).glob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()
