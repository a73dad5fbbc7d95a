"""Table files: read with the line of every mistake, and found by name."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from engine import catalog
from engine.errors import PresetError, UserError
from engine.preset_yaml import MAX_PROBLEMS, presets_dir, read_text
from engine.tables.form import TableForm
from engine.text import one_line, plain
from engine.yaml_lines import LIMIT, Document, KeyPath, YamlError, dotted, read_yaml, show

EXAMPLES = {
    "name": "name: my-table",
    "presets": "presets: [quickstart]",
    "methods": "methods: [{name: mmkd}, {name: aver}]",
    "seeds": "seeds: [0, 1, 2]",
    "mean": "mean: 75.76",
    "source": "source: 'Zhang et al., ICME 2023, table 1'",
    "method": "method: MMKD",
    "url": "url: https://arxiv.org/abs/2306.06634",
    "label": "label: 'MMKD, raw Gram'",
    "reference": "reference: MMKD",
    "settings": "settings: {beta: 10}",
    "overrides": "overrides: {train: {epochs: 60}}",
    "std": "std: 0.21",
    "published": "published: [{method: MMKD, mean: 75.76, source: 'table 1'}]",
}
_WORDS = {  # pydantic's, and ours
    "a valid tuple": "a list",
    "a valid list": "a list",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "text",
    "a valid dictionary": "a mapping of keys",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
}
_TOGETHER = ("reference", "methods", "seeds", "presets")  # mistakes of the whole table, by the key that they are shown at


def find_table(name_or_path: str) -> Path:
    """The file of a shipped table's name, or of a path; `UserError` that lists the names for anything else."""
    shipped = {path.stem: path for path in sorted((presets_dir() / "tables").glob("*.yaml"))}
    if name_or_path in shipped:
        return shipped[name_or_path]
    path = Path(name_or_path)
    with suppress(OSError, ValueError):  # no file can have such a name
        if path.exists():
            return path
    likely = catalog.nearest(path.stem, shipped)
    hint = f"did you mean '{likely}'? " if likely else ""
    raise UserError(
        f"there is no table '{plain(name_or_path, 200)}'; {hint}the shipped ones are {', '.join(shipped)}; "
        "or give the path of a file"
    )


def read_table(path: Path) -> tuple[TableForm, Document]:
    """The table in a file, and where everything in it stands; `PresetError` with a line for each mistake."""
    source = plain(str(path))
    try:
        document = read_yaml(read_text(path))
    except YamlError as error:
        raise PresetError(tuple(f"{source}:{line}: {sentence}" for line, sentence in error.problems[:MAX_PROBLEMS])) from None
    if document.empty or not isinstance(document.data, dict):
        found = "is empty" if document.empty else "is no mapping of keys to values"
        raise PresetError(
            (f"{source}:{document.values.get((), 1)}: the table {found}; it needs name, presets, methods and seeds",)
        )
    try:
        return TableForm.model_validate(document.data), document
    except ValidationError as error:
        found_wrong = [_mistake(detail, document) for detail in error.errors(include_url=False)[:MAX_PROBLEMS]]
        raise PresetError(tuple(f"{source}:{line}: {sentence}" for line, sentence in sorted(found_wrong))) from None


def line_of(document: Document, path: KeyPath) -> int:
    """Where `path`, or the innermost part around it, begins."""
    while path and path not in document.keys and path not in document.values:
        path = path[:-1]
    return document.keys.get(path) or document.values.get(path, 1)


def _mistake(detail: ErrorDetails, document: Document) -> tuple[int, str]:
    path, kind, given = detail["loc"], detail["type"], detail["input"]
    key = next((str(step) for step in reversed(path) if isinstance(step, str)), "")
    where = f"{dotted(path)}: "
    match kind:
        case "missing":
            return line_of(document, path[:-1]), f"{where}is missing; add for example '{EXAMPLES.get(key, key)}'"
        case "extra_forbidden":
            known = list(_model_at(path[:-1]).model_fields)
            likely = catalog.nearest(key, known)
            hint = f"did you mean '{likely}'?" if likely else f"the keys are {', '.join(known)}"
            part = f"{dotted(path[:-1])}" if len(path) > 1 else "a table"
            return line_of(document, path), f"{where}there is no key '{plain(key, LIMIT)}' in {part}; {hint}"
        case "unknown_name":
            context = detail["ctx"]
            return line_of(document, path), f"{where}there is no {context['kind']} {show(given)}; {context['hint']}"
        case _ if kind in _TOGETHER and not path:
            return line_of(document, (kind,)), f"{kind}: {plain(detail['msg'])}"
    said = detail["msg"].removeprefix("Input should be ")
    for theirs, ours in _WORDS.items():
        said = said.replace(theirs, ours)
    example = f"; write for example '{EXAMPLES[key]}'" if key in EXAMPLES else ""
    return line_of(document, path), f"{where}{show(given)} is not right: it should be {one_line(said, 160)}{example}"


def _model_at(path: tuple[int | str, ...]) -> type[BaseModel]:
    model: type[BaseModel] = TableForm
    for step in path:
        if isinstance(step, str) and step in model.model_fields:
            model = _part(model.model_fields[step].annotation) or model
    return model


def _part(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and not isinstance(annotation, UnionType) and get_origin(annotation) is None:
        return annotation if issubclass(annotation, BaseModel) else None
    return next((part for inner in get_args(annotation) if (part := _part(inner))), None)
