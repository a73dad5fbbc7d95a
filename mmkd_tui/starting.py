"""Whether a preset can be started here, and what stands in its way."""

from __future__ import annotations

from pathlib import Path

from engine.catalog import DATASETS
from engine.data_files import find_files, remedy
from engine.preset import Preset


def data_is_here(name: str, data_root: Path) -> bool:
    """Whether a data set's files lie where runs look for them."""
    facts = DATASETS[name]
    return not facts.files or find_files(facts, data_root) is not None


def hindrance(preset: Preset, data_root: Path) -> str:
    """Why a run of `preset` would end at once, and the remedy; "" where nothing is known to be in the way."""
    name = preset.dataset.name
    if not data_is_here(name, data_root):
        return f"{name} is not in {data_root}. {remedy(DATASETS[name], data_root)}"
    for teacher in preset.teachers:
        if teacher.checkpoint is not None and not Path(teacher.checkpoint).is_file():
            return f"there is no file {teacher.checkpoint}, of the teacher {teacher.arch}; check the path"
    return ""
