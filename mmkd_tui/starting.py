"""Whether a preset can be started here, and what stands in its way."""

from __future__ import annotations

from pathlib import Path

from engine.catalog import DATASETS
from engine.data_files import find_files, remedy
from engine.errors import UserError
from engine.image_folders import trouble_with
from engine.paths import is_file
from engine.preset import DatasetPart, Preset
from engine.trackers import refuse_missing
from mmkd_tui.timm_names import trouble_with_name


def data_is_here(name: str, data_root: Path) -> bool:
    """Whether a data set's files lie where runs look for them; of a user's own pictures, a preset says where they are."""
    facts = DATASETS[name]
    return not facts.files or find_files(facts, data_root) is not None


def missing_data(part: DatasetPart, data_root: Path) -> str:
    """What is in the way of reading a data set, and the remedy; "" where nothing is known to be."""
    if part.path is not None:
        return trouble_with(part)
    if data_is_here(part.name, data_root):
        return ""
    return f"{part.name} is not in {data_root}. {remedy(DATASETS[part.name], data_root)}"


def hindrance(preset: Preset, data_root: Path) -> str:
    """Why a run of `preset` would end at once, and the remedy; "" where nothing is known to be in the way."""
    try:
        refuse_missing(preset.trackers)
    except UserError as error:
        return str(error)
    if missing := missing_data(preset.dataset, data_root):
        return missing
    for arch in (*(teacher.arch for teacher in preset.teachers), preset.student.arch):
        if said := trouble_with_name(arch):
            return f"{arch}: {said}"
    for teacher in preset.teachers:
        if teacher.checkpoint is not None and not is_file(Path(teacher.checkpoint)):
            return f"there is no file {teacher.checkpoint}, of the teacher {teacher.arch}; check the path"
    return ""
