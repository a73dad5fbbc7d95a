"""A store as runs would have left it, without their training."""

from __future__ import annotations

from pathlib import Path

from engine.preset import Preset
from engine.preset_yaml import find_preset, load_preset
from engine.teachers.store import TeacherStore, content_key


def quickstart(*overrides: str) -> Preset:
    return load_preset(find_preset("quickstart"), overrides)


def stored(root: Path, preset: Preset, *, seconds: float = 8.0, device: str = "cpu", **other: object) -> None:
    """The teachers of a preset, as a run would have left them."""
    for teacher in preset.teachers:
        key = content_key(preset, teacher.arch, teacher.seed, teacher.recipe, ranks=1)
        facts = {
            "arch": teacher.arch,
            "dataset": preset.dataset.model_dump(mode="json"),
            "seed": teacher.seed,
            "recipe": teacher.recipe.model_dump(mode="json"),
            "accuracy": 0.975,
            "seconds": seconds,
            "device": device,
        }
        TeacherStore(root).add(key, b"weights", facts | other)
