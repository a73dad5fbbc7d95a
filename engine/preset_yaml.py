"""Presets as files: read with the line of every mistake, written so that they read back the same, found by name."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from engine import catalog
from engine.errors import PresetError, UserError
from engine.overrides import OverrideError, apply, source_of
from engine.preset import RECORDED, Preset
from engine.preset_errors import MAX_PROBLEMS, PRESET, Mistake, Wording, mistakes, true_errors
from engine.text import one_line, plain
from engine.yaml_lines import MAX_BYTES, Document, KeyPath, YamlError, read_yaml, scalar

_Model = TypeVar("_Model", bound=BaseModel)

MOST_OWN = 50  # files of a folder that are tried
_TOP_KEY = re.compile(r"^[\"']?([\w-]+)[\"']?[ \t]*:(?=\s|$)", re.MULTILINE)
_TELLING = ("dataset", "teachers", "student", "method")  # keys by which a preset is told from other YAML
_LAST, _OVERRIDES = 1 << 29, 1 << 30  # in the order of mistakes, after all lines


@dataclass(frozen=True, slots=True)
class PresetEntry:
    """A preset that is listed; `problems` say why it could not be read, and then `preset` is None."""

    name: str
    path: Path
    description: str
    preset: Preset | None
    problems: tuple[str, ...] = ()

    @property
    def problem(self) -> str | None:
        """All of them on one line."""
        return one_line("\n".join(self.problems)) if self.problems else None

    @property
    def mistakes(self) -> list[str]:
        """The same without the file: `line 2: studnet: there is no key ...`"""
        source = f"{plain(str(self.path))}:"
        said = [problem.removeprefix(source).strip() for problem in self.problems]
        return [f"line {line}" if line[0].isdigit() else line for line in said]


def load_preset(path: Path, overrides: Sequence[str] = ()) -> Preset:
    """The preset in a file; `PresetError` with a line for each mistake."""
    return parse_preset(read_text(path), str(path), overrides)


def load_recorded(path: Path) -> Preset:
    """The preset that a run wrote down, for who looks at it: it may name architectures of plugins that are not loaded."""
    return parse_form(read_text(path), str(path), PRESET, context=RECORDED)[0]


def parse_preset(text: str, source: str, overrides: Sequence[str] = ()) -> Preset:
    """The preset in `text`; `source` names it in the lines of a `PresetError`."""
    return parse_form(text, source, PRESET, overrides)[0]


def parse_form(
    text: str, source: str, wording: Wording[_Model], overrides: Sequence[str] = (), context: str | None = None
) -> tuple[_Model, Document]:
    """What `text` holds, and where everything in it stands; `source` names it in the lines of a `PresetError`.

    `context`: of the validation, see engine.preset.
    """
    source = plain(source)
    if len(text) > MAX_BYTES:
        raise PresetError((_too_large(source),))
    try:
        document = read_yaml(text)
    except YamlError as error:
        raise PresetError(_few([f"{source}:{line}: {sentence}" for line, sentence in error.problems])) from None
    _check_root(document, source, wording)
    data, origins = _overridden(document.data, overrides)
    try:
        return wording.model.model_validate(data, context=context), document
    except ValidationError as error:
        places = _Places(source, document, origins)
        found = sorted((places.of(mistake) for mistake in mistakes(error, data, wording)), key=lambda place: place[0])
        raise PresetError(_few([line for _, line in found], len(true_errors(error)))) from None


def read_text(path: Path) -> str:
    """What stands in a preset's file, if it is a regular file of at most 256 KB in UTF-8."""
    return decoded(_content(path), plain(str(path)))


def _content(path: Path) -> bytes:
    source = plain(str(path))
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise PresetError((f"{source}: is not a regular file; give the path of a YAML file",))
            content = file.read(MAX_BYTES + 1) if facts.st_size <= MAX_BYTES else b" " * (MAX_BYTES + 1)
    except FileNotFoundError:
        raise PresetError((f"{source}: there is no such file; check the path",)) from None
    except IsADirectoryError:
        raise PresetError((f"{source}: is a directory; give the path of a YAML file in it",)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PresetError((f"{source}: cannot be read ({plain(reason.lower(), 100)}); give the path of a YAML file",)) from None
    return content


def decoded(content: bytes, source: str) -> str:
    """The text of a preset, if it has at most 256 KB in UTF-8; `source` names it in the lines of a `PresetError`."""
    if len(content) > MAX_BYTES:
        raise PresetError((_too_large(source),))
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PresetError(
            (f"{source}:{line}: the byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8",)
        ) from None


def _open_at_once(name: str, flags: int) -> int:
    """Opens a FIFO, too, without waiting until somebody writes to it."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))


def _too_large(source: str) -> str:
    return f"{source}: is larger than {MAX_BYTES // 1024} KB; no preset needs so much"


def _check_root(document: Document, source: str, wording: Wording[Any]) -> None:
    line, noun = document.values.get((), 1), wording.noun
    if document.empty:
        raise PresetError((f"{source}:{line}: the {noun} is empty; it needs {wording.needs}",))
    if not isinstance(document.data, dict):
        found = "a list" if isinstance(document.data, tuple) else "a single value"
        remedy = f"begin with 'name: {wording.examples['name']}'"
        raise PresetError((f"{source}:{line}: a {noun} is a mapping of keys to values, not {found}; {remedy}",))


def _overridden(data: Any, overrides: Sequence[str]) -> tuple[Any, dict[KeyPath, str]]:
    origins: dict[KeyPath, str] = {}
    problems = []
    for override in overrides:
        try:
            data, written = apply(data, override)
        except OverrideError as error:
            problems.append(str(error))
        else:
            origins.update(dict.fromkeys(written, source_of(override)))
    if problems:
        raise PresetError(_few(problems))
    return data, origins


@dataclass(frozen=True, slots=True)
class _Places:
    """Where what was given stands: on a line of the file or in an override."""

    source: str
    document: Document
    origins: dict[KeyPath, str]

    def of(self, mistake: Mistake) -> tuple[int, str]:
        """A number to sort by and the whole line for the user. By line; then what the file as a whole lacks, which may be what
        is misspelled above; overrides come last.
        """
        for path in mistake.places:
            if origin := self._override(path, below=len(mistake.places) > 1):
                return _OVERRIDES, f"{origin}: {mistake.sentence}"
        lines = self.document.keys | self.document.values
        if mistake.at_key:
            lines = self.document.values | self.document.keys
        given = next((path for path in mistake.places if path in lines), mistake.places[0])
        while given not in lines:
            given = given[:-1]
        return lines[given] if given else _LAST, f"{self.source}:{lines[given]}: {mistake.sentence}"

    def _override(self, path: KeyPath, below: bool) -> str | None:
        """The override that wrote `path` or a part around it; or, if `below`, anything within it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        within = [origin for written, origin in self.origins.items() if below and path and written[: len(path)] == path]
        return within[-1] if within else None


def _few(problems: list[str], count: int | None = None) -> tuple[str, ...]:
    more = (count or len(problems)) - MAX_PROBLEMS
    return (*problems[:MAX_PROBLEMS], *([f"and {more} more mistakes"] if more > 0 else []))


class _Dumper(yaml.SafeDumper):
    """Writes YAML that our reader reads back the same."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    quoted = not isinstance(scalar(text), str) or not text.isprintable()
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if quoted else None)


def _write_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.SequenceNode:
    flow = not any(isinstance(item, dict) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flow)


_Dumper.add_representer(str, _write_text)
_Dumper.add_representer(list, _write_list)


def dump_preset(preset: Preset, *, brief: bool = False) -> str:
    """The preset as YAML, in the models' order; `parse_preset` reads it back as an equal preset.

    Whole, or, if `brief`, without what says the same as its default.
    """
    data = preset.model_dump(mode="json", exclude_defaults=brief)
    if brief and "method" not in data:
        data["method"] = {"name": preset.method.name}  # which method it is, is always said
        data = {key: data[key] for key in Preset.model_fields if key in data}
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=1 << 30)
    # What plain escapes stands in double quotes, where YAML reads the same escapes.
    return plain(text, keep="\n")


def preset_schema() -> dict[str, Any]:
    """The presets' JSON Schema, by which editors complete, explain and check."""
    schema = Preset.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        for name, field in part["properties"].items():
            if field["unit"] != "none":
                field["description"] += f" (unit: {field['unit']})"
            field["title"] = name.replace("_", " ")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "mmkd preset"}


def presets_dir() -> Path:
    """The folder of the shipped presets: in the installed package, or at the top of the repository."""
    package = Path(__file__).resolve().parent
    installed = package / "presets"
    return installed if installed.is_dir() else package.parent / "presets"


def list_presets() -> list[PresetEntry]:
    """Every shipped preset, the one for newcomers first, then by name."""
    paths = sorted(presets_dir().glob("*.yaml"), key=lambda path: (path.stem != "quickstart", path.stem))
    return [_entry(path) for path in paths]


def own_presets(folder: Path) -> list[PresetEntry]:
    """The presets among the first `MOST_OWN` of a folder's YAML files, by file name, with those that are wrong."""
    try:
        paths = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])[:MOST_OWN]
    except OSError:
        return []
    return [entry for path in paths if (entry := _own(path))]


def _own(path: Path) -> PresetEntry | None:
    """None for some other YAML, and for what cannot be opened: nobody knows what it was to be."""
    entry = _entry(path)
    if entry.preset:
        return replace(entry, name=entry.preset.name)
    try:
        content = _content(path)
    except PresetError:
        return None
    return entry if _meant_as_preset(content.decode("utf-8-sig", errors="replace")) else None


def _meant_as_preset(text: str) -> bool:
    """By its keys, which are looked for as text: it may be no YAML. Tables and sweeps have `presets`, and tables `methods`; other
    programs' files may have one or another of the keys that presets are told by.
    """
    keys = set(_TOP_KEY.findall(text))
    telling = {key for key in keys - {"methods"} if catalog.nearest(key, _TELLING, least=0.85)}
    return "presets" not in keys and bool(telling) and len(telling | (keys & {*Preset.model_fields, "methods"})) > 1


def _entry(path: Path) -> PresetEntry:
    try:
        preset = load_preset(path)
    except PresetError as error:
        return PresetEntry(path.stem, path, "", None, error.problems)
    return PresetEntry(path.stem, path, preset.description, preset)


def find_preset(name_or_path: str) -> Path:
    """The file of a shipped preset's name, or of a path; `UserError` that says the nearest name for anything else."""
    return find_shipped("preset", presets_dir(), name_or_path, "mmkd presets list shows the shipped ones")


def find_shipped(noun: str, folder: Path, name_or_path: str, remedy: str | None = None) -> Path:
    """The file of the name of one in `folder`, or of a path; `UserError` that lists the names for anything else.

    `remedy`: told in place of the names, where they are many.
    """
    shipped = {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}
    if name_or_path in shipped:
        return shipped[name_or_path]
    path = Path(name_or_path)
    with suppress(OSError, ValueError):  # no file can have such a name
        if path.exists():
            return path
    likely = catalog.nearest(path.stem, shipped)
    said = f"there is no {noun} '{plain(name_or_path, 200)}'"
    if remedy and not likely and path.suffix in (".yaml", ".yml"):
        raise UserError(f"{said}: no such file; {remedy}")
    names = remedy or f"{'The' if likely else 'the'} shipped ones are {', '.join(shipped)}"
    hint = f"did you mean '{likely}'? " if likely else ""
    raise UserError(f"{said}; {hint}{names}; or give the path of a file")
