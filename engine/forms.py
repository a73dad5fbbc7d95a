"""Files that are a form: read with the line of every mistake; and what was found wrong in them later, told in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from engine import catalog
from engine.errors import PresetError
from engine.preset import Preset
from engine.preset_yaml import MAX_PROBLEMS, find_preset, load_preset, read_text
from engine.text import one_line, plain
from engine.yaml_lines import LIMIT, Document, KeyPath, YamlError, dotted, read_yaml, show

_Form = TypeVar("_Form", bound=BaseModel)
_WORDS = {  # pydantic's, and ours
    "a valid tuple": "a list",
    "a valid list": "a list",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid dictionary": "a mapping of keys",
    "a valid dictionary or instance of": "a mapping of keys, a",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
}


@dataclass(frozen=True, slots=True)
class Wording:
    """How mistakes in one kind of file are told."""

    noun: str  # "table"
    needs: str  # the keys that it cannot do without
    examples: Mapping[str, str]  # by key, what to write
    together: tuple[str, ...]  # mistakes of the whole file, by the key that they are shown at


def read_form(path: Path, model: type[_Form], wording: Wording) -> tuple[_Form, Document]:
    """The form in a file, and where everything in it stands; `PresetError` with a line for each mistake."""
    source = plain(str(path))
    try:
        document = read_yaml(read_text(path))
    except YamlError as error:
        raise PresetError(tuple(f"{source}:{line}: {sentence}" for line, sentence in error.problems[:MAX_PROBLEMS])) from None
    if document.empty or not isinstance(document.data, dict):
        found = "is empty" if document.empty else "is no mapping of keys to values"
        line = document.values.get((), 1)
        raise PresetError((f"{source}:{line}: the {wording.noun} {found}; it needs {wording.needs}",))
    try:
        return model.model_validate(document.data), document
    except ValidationError as error:
        details = error.errors(include_url=False)[:MAX_PROBLEMS]
        found_wrong = [_mistake(detail, document, model, wording) for detail in details]
        raise PresetError(tuple(f"{source}:{line}: {sentence}" for line, sentence in sorted(found_wrong))) from None


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

    def preset(self, given: str) -> Preset:
        """A shipped preset, or a file beside the form."""
        beside = self.folder / given
        path = beside if Path(given).suffix in (".yaml", ".yml") and beside.is_file() else find_preset(given)
        return load_preset(path).anchored(path.parent)


def _mistake(detail: ErrorDetails, document: Document, form: type[BaseModel], wording: Wording) -> tuple[int, str]:
    path, kind, given = detail["loc"], detail["type"], detail["input"]
    key = next((str(step) for step in reversed(path) if isinstance(step, str)), "")
    where = f"{dotted(path)}: "
    match kind:
        case "missing":
            return line_of(document, path[:-1]), f"{where}is missing; add for example '{wording.examples.get(key, key)}'"
        case "extra_forbidden":
            known = list(_model_at(form, path[:-1]).model_fields)
            likely = catalog.nearest(key, known)
            hint = f"did you mean '{likely}'?" if likely else f"the keys are {', '.join(known)}"
            part = f"{dotted(path[:-1])}" if len(path) > 1 else f"a {wording.noun}"
            return line_of(document, path), f"{where}there is no key '{plain(key, LIMIT)}' in {part}; {hint}"
        case "unknown_name":
            context = detail["ctx"]
            return line_of(document, path), f"{where}there is no {context['kind']} {show(given)}; {context['hint']}"
        case _ if kind in wording.together and not path:
            return line_of(document, (kind,)), f"{kind}: {plain(detail['msg'])}"
    said = detail["msg"].removeprefix("Input should be ")
    for theirs, ours in _WORDS.items():
        said = said.replace(theirs, ours)
    example = f"; write for example '{wording.examples[key]}'" if key in wording.examples else ""
    return line_of(document, path), f"{where}{show(given)} is not right: it should be {one_line(said, 160)}{example}"


def _model_at(model: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel]:
    for step in path:
        if isinstance(step, str) and step in model.model_fields:
            model = _part(model.model_fields[step].annotation) or model
    return model


def _part(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not isinstance(annotation, UnionType) and get_origin(annotation) is None:
        return annotation if issubclass(annotation, BaseModel) else None
    return next((part for inner in get_args(annotation) if (part := _part(inner))), None)
