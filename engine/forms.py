"""What is found wrong in a sweep's or table's file after it was read, told with its line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from engine.errors import PresetError
from engine.overrides import source_of
from engine.preset import Preset
from engine.preset_errors import MAX_PROBLEMS
from engine.preset_yaml import find_preset, load_preset
from engine.text import plain
from engine.yaml_lines import Document, KeyPath, dotted

_Form = TypeVar("_Form")


def line_of(document: Document, path: KeyPath) -> int:
    """Where `path`, or the innermost part around it, begins."""
    while path and path not in document.keys and path not in document.values:
        path = path[:-1]
    return document.keys.get(path) or document.values.get(path, 1)


@dataclass(slots=True)
class Source(Generic[_Form]):
    """A form's file, and what was found wrong with it so far."""

    name: str  # as messages name it
    document: Document
    folder: Path  # that relative paths begin from
    overrides: tuple[str, ...]  # KEY=VALUE, laid over all else
    form: _Form
    problems: list[str] = field(default_factory=list)

    def say(self, path: KeyPath, sentence: str) -> None:
        """Notes a mistake at `path`."""
        self.problems.append(f"{self.name}:{line_of(self.document, path)}: {dotted(path)}: {sentence}")

    def refuse(self) -> None:
        """PresetError where anything was noted."""
        if self.problems:
            raise PresetError(tuple(dict.fromkeys(self.problems))[:MAX_PROBLEMS])

    def want_student(self, preset: Preset, *places: KeyPath) -> None:
        """Notes a preset that would train teachers alone: at the first of `places` that the form has, or at the option."""
        if not preset.only_teachers:
            return
        said = "the run would train teachers alone, and there would be no student to compare; remove only_teachers"
        if given := [override for override in self.overrides if override.partition("=")[0].strip() == "only_teachers"]:
            self.problems.append(f"{source_of(given[-1])}: {said}")
            return
        here = self.document.keys | self.document.values
        self.say(next((place for place in places if place in here), places[-1]), f"{plain(preset.name)}: {said}")

    def preset(self, given: str) -> Preset:
        """A shipped preset, or a file beside the form."""
        beside = self.folder / given
        path = beside if Path(given).suffix in (".yaml", ".yml") and beside.is_file() else find_preset(given)
        return load_preset(path).anchored(path.parent)
