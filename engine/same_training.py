"""What in a preset changes no training, whether two are tested on the same images, and a key of all that is trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from engine.dataset_facts import FOLDER
from engine.image_folders import draws_its_test
from engine.preset import DatasetPart, Preset

# What says where, under which name and by how many helpers it is done, how often it is saved and what is shown of it; not what
# comes of it. A run may go on with others than it began with, and runs that differ in nothing else are the same training.
CHANGES_NOTHING = (
    "name",
    "description",
    "hardware.device",
    "hardware.threads",
    "hardware.workers",
    "hardware.compile",
    "hardware.teachers",
    "teacher_cache.storage",
    "checkpoints",
    "evaluate.batch_size",
    "trackers",
)


def same_test_images(one: DatasetPart, other: DatasetPart) -> bool:
    """Whether networks that are trained on these are tested on the same images."""
    if (one.name, one.path) != (other.name, other.path):
        return False
    drawn = one.name == FOLDER and draws_its_test(Path(one.path or "").expanduser())
    return one.split_seed == other.split_seed or not drawn


def among(key: str, settings: Iterable[str]) -> bool:
    """Whether a setting, by its dotted key, is one of these or within one of them."""
    return any(key == one or key.startswith(f"{one}.") for one in settings)


def run_key(preset: Preset) -> str:
    """Eight hexadecimal digits that are the same for presets that ask for the same training."""
    data = preset.model_dump(mode="json", exclude=_left_out(), exclude_defaults=True)
    # What is at its default is left out, so that a setting which a later version adds changes no key; but not the method.
    data["method"] = preset.method.model_dump(mode="json", exclude_defaults=True) | {"name": preset.method.name}
    data = {key: value for key, value in data.items() if value != {}}
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:8]


def _left_out() -> dict[str, Any]:
    """As pydantic takes it."""
    found: dict[str, Any] = {}
    for key in CHANGES_NOTHING:
        part, dot, name = key.partition(".")
        if dot:
            found.setdefault(part, set()).add(name)
        else:
            found[part] = True
    return found
