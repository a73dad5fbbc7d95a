"""From a preset's method to the object that trains by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine.meta.weight_nets import WeightNets
from engine.methods.aekd import AdaptiveEnsemble
from engine.methods.aver import Average
from engine.methods.base import Method
from engine.methods.camkd import ConfidenceAware, Head
from engine.methods.ce import CrossEntropy
from engine.methods.ebkd import EntropyBased
from engine.methods.fitnet import Hints
from engine.methods.mmkd import Mmkd
from engine.models import Classifier, build_model
from engine.models.build import SIZE
from engine.models.regressor import Learner
from engine.models.tapped import hold_affine, takes_bfloat16
from engine.preset import AekdPart, CamkdPart, CePart, EbkdPart, FitnetPart, MmkdPart
from engine.preset import Method as MethodPart


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides which computation a training is: the method, the student and the shapes."""

    part: MethodPart
    arch: str  # the student's
    channels: int  # of the images
    classes: int
    batch_size: int
    teacher_channels: tuple[int, ...] = ()  # of each teacher's feature map
    bf16: bool = False
    size: int = SIZE  # pixels along a side of the images
    features: str | None = None  # the module that gives the student's feature map, where it is not the last
    renormalised: bool = False  # whether the student has an affine step before its network (see Tapped)

    def build(self, seed: int, device: torch.device, heads: Sequence[Head] = ()) -> Method:
        """The method, with a new student; initial weights are a function of `seed`. `heads`: the teachers', for who asks them."""
        student = build_model(self.arch, self.channels, self.classes, seed, size=self.size, features=self.features)
        if self.renormalised:
            hold_affine(student)
        return make_method(
            self.part,
            student,
            self.teacher_channels,
            classes=self.classes,
            batch_size=self.batch_size,
            seed=seed,
            device=device,
            bf16=self.bf16,
            heads=heads,
        )


def make_method(
    part: MethodPart,
    student: Classifier,
    teacher_channels: Sequence[int],
    *,
    classes: int,
    batch_size: int,
    seed: int,
    device: torch.device,
    bf16: bool = False,
    heads: Sequence[Head] = (),
) -> Method:
    """The method, with its learner (and weight networks) on `device`.

    `teacher_channels`: of each teacher's feature map. `heads`: each teacher's, frozen and on `device`; only camkd asks them.
    """
    bf16 = bf16 and takes_bfloat16(student)
    hints = isinstance(part, MmkdPart | CamkdPart | FitnetPart) or (isinstance(part, AekdPart) and part.beta > 0)
    if hints:
        learner = Learner(student, teacher_channels, part.regressor, seed, bf16=bf16).to(device)  # type: ignore[union-attr]
    else:
        learner = Learner(student, bf16=bf16).to(device)
    match part:
        case MmkdPart():
            nets = WeightNets(len(teacher_channels), classes, batch_size, part.gram == "normalised", seed).to(device)
            return Mmkd(part, learner, nets, seed)
        case EbkdPart():
            return EntropyBased(part, learner)
        case CamkdPart():
            return ConfidenceAware(part, learner, heads)
        case AekdPart():
            return AdaptiveEnsemble(part, learner)
        case FitnetPart():
            return Hints(part, learner)
        case CePart():
            return CrossEntropy(learner)
    return Average(part, learner)
