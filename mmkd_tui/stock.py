"""The trained networks at hand: the store's facts, checked, and whether it holds what a preset asks for."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from engine.architectures import is_architecture
from engine.image_folders import facts_of
from engine.preset import DatasetPart, Preset, TeacherPart, TrainPart
from engine.teachers.store import Stored, TeacherStore, content_key


@dataclass(frozen=True, slots=True)
class Network:
    """A network of the store whose facts are as they should be."""

    key: str
    arch: str
    dataset: DatasetPart
    seed: int
    recipe: TrainPart
    accuracy: float | None  # on the test split, 0..1
    seconds: float | None  # that its training took
    device: str  # "" where that is not known


@dataclass(frozen=True, slots=True)
class Stock:
    """What the store held when it was read, the newest last."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def read(cls, root: Path) -> Stock:
        """Reads the facts of a store's entries; what makes no sense is passed over."""
        try:
            entries = TeacherStore(root).entries()
        except OSError:  # a store that may not be entered
            entries = []
        return cls(tuple(network for entry in entries if (network := _network(entry)) is not None))

    def with_key(self, key: str) -> Network | None:
        """The network of a content key."""
        return next((network for network in self.networks if network.key == key), None)

    def of(self, preset: Preset, arch: str, seed: int, recipe: TrainPart, pretrained: bool = False) -> Network | None:
        """The network that a run of `preset` would find in place of training it; the app starts each in one process."""
        if preset.dataset.path is not None and not facts_of(preset.dataset).classes:
            return None  # nobody waits here for a folder to be read
        return self.with_key(content_key(preset, arch, seed, recipe, ranks=1, pretrained=pretrained))

    def teacher(self, preset: Preset, part: TeacherPart) -> Network | None:
        """As `of`, for a teacher; None for one that is given."""
        return self.of(preset, part.arch, part.seed, part.recipe, part.pretrained) if part.trained else None

    def on(self, dataset: str) -> Iterable[Network]:
        """Those trained on a data set, whatever its split, the newest first."""
        return (network for network in reversed(self.networks) if network.dataset.name == dataset)


def _network(entry: Stored) -> Network | None:
    facts = entry.facts
    arch, seed = facts.get("arch"), facts.get("seed")
    if not isinstance(arch, str) or not is_architecture(arch) or type(seed) is not int or not 0 <= seed < 2**63:
        return None
    try:
        dataset = DatasetPart.model_validate_json(json.dumps(facts.get("dataset")))
        recipe = TrainPart.model_validate_json(json.dumps(facts.get("recipe")))
    except (ValidationError, ValueError, RecursionError):
        return None
    accuracy, seconds = _number(facts.get("accuracy")), _number(facts.get("seconds"))
    return Network(
        key=entry.key,
        arch=arch,
        dataset=dataset,
        seed=seed,
        recipe=recipe,
        accuracy=accuracy if accuracy is not None and accuracy <= 1 else None,
        seconds=seconds,
        device=str(facts.get("device") or "")[:64],
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15 or not math.isfinite(value):
        return None
    return float(value)
