"""Whether a checkpoint can teach on a data set: whether it fits, how good it is, and what was taken for granted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.data import Images, load_images
from engine.device import resolve_device
from engine.measure import logits_of, measured, whole_labels
from engine.models import Classifier
from engine.models.build import build_model, count_parameters
from engine.preprocessing import Preprocessing
from engine.preset import DatasetPart, HardwarePart, TeacherPart
from engine.teachers.chance import chance_level, needed
from engine.teachers.foreign import Fit, fit_to, load_weights, remedy, sketch, unsaid
from engine.teachers.weights_file import Contents, outline_of


@dataclass(frozen=True, slots=True)
class Assumed:
    """What a file of weights does not say, and the data set does."""

    classes: tuple[str, ...]  # their names, in the order of the logits
    prepared: Preprocessing  # what is done to its pictures

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"classes": len(self.classes), "names": list(self.classes)} | dataclasses.asdict(self.prepared)


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found. Accuracies are shares of the test images; None where the file does not fit."""

    contents: Contents  # of the file; only the shapes of its tensors
    fit: Fit
    remedy: str  # what would mend that it does not fit; nothing where it does
    parameters: int
    assumed: Assumed
    unsaid: str  # of how its images may have been normalised otherwise; nothing where the field has but one habit
    images: int  # of the test split
    chance: float  # accuracy of always naming its most frequent class
    needed: float  # accuracy that a teacher must exceed
    accuracy: float | None
    finite: bool  # whether all logits were

    @property
    def usable(self) -> bool:
        """Whether it can be a teacher."""
        return self.accuracy is not None and self.finite and self.accuracy > self.needed

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        found = self.fit
        return {
            "usable": self.usable,
            "fits": found.whole,
            "averages_taken": self.contents.averages or None,
            "missing": list(found.missing),
            "unknown": list(found.unknown),
            "shapes": [{"name": n, "file": list(there), "architecture": list(here)} for n, there, here in found.shapes],
            "renamed": [{"file": theirs, "architecture": ours} for theirs, ours in found.renamed],
            "left_out": list(found.beside),
            "remedy": self.remedy or None,
            "parameters": self.parameters,
            "accuracy": self.accuracy,
            "finite": self.finite,
            "chance": self.chance,
            "needed": self.needed,
            "test_images": self.images,
            "assumed": self.assumed.to_json(),
            "unsaid": self.unsaid or None,
        }


def check_teacher(
    path: Path,
    arch: str,
    dataset: DatasetPart,
    data_root: Path,
    device: str = "auto",
    features: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Checked:
    """Reads a file, compares it with an architecture and, where it fits, measures it on the test split. What is broken in that
    is told by `say`.

    UserError where the file cannot be read, where the data set is not there, and where there is no such architecture.
    """
    part = TeacherPart(arch=arch, features=features)
    contents = outline_of(path)  # what is cheap to find out comes first
    where = resolve_device(HardwarePart(device=device))
    images = load_images(dataset, data_root, where)
    images.troubles.listen(lambda level, message: say(message) if level != "info" else None)
    try:
        return _checked(path, contents, part, images, where)
    finally:
        images.close()


def _checked(path: Path, contents: Contents, part: TeacherPart, images: Images, where: torch.device) -> Checked:
    facts, split = images.facts, images.test

    def make() -> Classifier:
        return build_model(part.arch, facts.channels, images.classes, size=facts.size, features=part.features)

    drawn = sketch(make)
    found = fit_to(drawn, contents.tensors)
    mean, std = (tuple(round(v, 6) for v in values) for values in images.normalised)
    assumed = Assumed(facts.classes, Preprocessing(facts.channels, facts.size, facts.scaled_to, mean, std))
    accuracy, finite = None, True
    if found.whole:
        model = make()
        load_weights(model, path, part.arch)
        logits = logits_of(model.to(where), split, 512)
        finite = bool(torch.isfinite(logits).all())
        accuracy = measured(logits, split.labels).accuracy
    labels = whole_labels(split.labels)
    chance = chance_level(labels)
    bound = needed(chance, len(labels))
    said = unsaid(part.arch, images.normalised, contents.tensors)
    helps, parameters = remedy(found, drawn), count_parameters(drawn)
    return Checked(contents, found, helps, parameters, assumed, said, len(labels), chance, bound, accuracy, finite)
