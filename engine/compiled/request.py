"""What a compiled function depends on, as data: another process makes it from that, and runs that ask for the same share it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from engine import paths
from engine.compiled.pure import Pure, PurePanel
from engine.meta.sgd import Sgd
from engine.methods.make import Plan
from engine.models import build_model
from engine.models.panel import TeacherPanel
from engine.models.tapped import hold_affine, renormalises
from engine.preset import METHOD

FORMAT = 2
# The packages whose code ends up in a compiled function.
CODE = ("compiled", "kernels", "meta", "methods", "models")


class Request(ABC):
    """Frozen and of plain data; a subclass is a dataclass.

    The device is one of its machine, by number: compiled code begins with a switch to it.
    """

    KIND: ClassVar[str]
    device: str  # "cpu", "cuda:1"
    threads: int  # on a CPU; 1 on a GPU

    @property
    @abstractmethod
    def parts(self) -> tuple[str, ...]:
        """The functions that are wanted, the first of which is compiled first."""

    @abstractmethod
    def function(self, part: str) -> Callable[..., Any]:
        """One of them, uncompiled."""

    @abstractmethod
    def example(self) -> tuple[Any, ...]:
        """Arguments like those to come."""

    def to_json(self) -> str:
        """One line; `request_of` reads it."""
        return json.dumps({"kind": self.KIND} | asdict(self), sort_keys=True)  # type: ignore[call-overload]

    def folder(self) -> Path:
        """Where its functions are kept: elsewhere for each release of PyTorch, of our code, and each kind of processor."""
        device = torch.device(self.device)
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
        releases = [torch.__version__, _release("torchvision"), _release("timm")]
        asked = [FORMAT, self.to_json(), *releases, platform.machine(), where, _code()]
        return paths.cache_dir() / "compiled" / hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class StepsRequest(Request):
    """A training's steps: a plan, the shapes that its first batch had, the optimiser's settings and the device."""

    KIND: ClassVar[str] = "steps"

    method: dict[str, Any]
    arch: str
    images: tuple[int, int, int, int]  # [B, channels, H, W]
    classes: int
    teachers: tuple[tuple[int, int, int], ...]  # [c, h, w] of each one's feature map
    bf16: bool
    momentum: float
    weight_decay: float
    nesterov: bool
    device: str
    threads: int
    features: str | None = None  # the student's
    renormalised: bool = False

    @classmethod
    def of(cls, plan: Plan, images: Tensor, teachers: list[tuple[int, int, int]], sgd: Sgd) -> StepsRequest:
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
            device=str(images.device),
            threads=_threads(images, torch.get_num_threads()),
            features=plan.features,
            renormalised=plan.renormalised,
        )

    @property
    def parts(self) -> tuple[str, ...]:
        return self.pure.parts

    def function(self, part: str) -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(self.pure, part)
        return found

    @cached_property
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
            renormalised=self.renormalised,
        )
        method = plan.build(0, torch.device(self.device))
        method.learner.train()
        return Pure(method, Sgd(0.0, self.momentum, self.weight_decay, self.nesterov))

    def example(self) -> tuple[Any, ...]:
        parameters, buffers, weights = self.pure.tensors()
        device, batch = torch.device(self.device), self.images[0]
        outputs: list[Tensor] = []
        for shape in self.teachers:
            outputs += [torch.zeros(batch, self.classes, device=device), torch.zeros(batch, *shape, device=device)]
        momenta = [torch.zeros_like(p) for p in parameters]
        labels = torch.zeros(batch, dtype=torch.int64, device=device)
        return (parameters, momenta, buffers, weights, parameters[0].new_zeros(()), torch.zeros(self.images, device=device),
                labels, *outputs)  # fmt: skip


@dataclass(frozen=True)
class TeachersRequest(Request):
    """What all teachers say of a batch: their architectures, the batch's shape and the device."""

    KIND: ClassVar[str] = "teachers"

    networks: tuple[tuple[str, str | None], ...]  # architecture; the module of its feature map, if it is named
    images: tuple[int, int, int, int]  # [B, channels, H, W]
    classes: int
    bf16: bool
    device: str
    threads: int
    renormalised: tuple[bool, ...]  # which of the networks have an affine step before them

    @classmethod
    def of(
        cls, panel: TeacherPanel, networks: tuple[tuple[str, str | None], ...], classes: int, images: Tensor, threads: int
    ) -> TeachersRequest:
        """For teachers of these architectures and feature maps, on batches like `images`, or slices of them."""
        shape: Any = tuple(images.shape)
        steps = tuple(renormalises(teacher) for teacher in panel.teachers)
        return cls(networks, shape, classes, panel.bf16, str(images.device), _threads(images, threads), steps)

    @property
    def parts(self) -> tuple[str, ...]:
        return ("teachers",)

    def function(self, part: str) -> Callable[..., Any]:
        return self.pure.teachers

    @cached_property
    def pure(self) -> PurePanel:
        """Such teachers, with arbitrary weights."""
        device = torch.device(self.device)
        _, channels, size, _ = self.images
        models = [
            build_model(arch, channels, self.classes, size=size, features=features).to(device) for arch, features in self.networks
        ]
        for model, renormalised in zip(models, self.renormalised, strict=True):
            if renormalised:
                hold_affine(model)
        return PurePanel(TeacherPanel(models, self.bf16), torch.zeros(self.images, device=device))

    def example(self) -> tuple[Any, ...]:
        return self.pure.tensors(), torch.zeros(self.images, device=self.device)


def request_of(text: str) -> Request:
    """What `Request.to_json` wrote."""
    fields = json.loads(text)
    kind = {found.KIND: found for found in (StepsRequest, TeachersRequest)}[fields.pop("kind")]
    return kind(**{name: _frozen(value) for name, value in fields.items()})


def _threads(images: Tensor, wanted: int) -> int:
    """A run with another number of them finds what was compiled for a GPU all the same."""
    return wanted if images.device.type == "cpu" else 1


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value


@cache
def _release(package: str) -> str | None:
    """The release of a package whose networks' code may end up in a compiled step; to import it would take seconds."""
    try:
        return importlib.metadata.version(package)
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
