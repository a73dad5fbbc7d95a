"""Reads YAML as plain data with the line of everything in it: 1.2's scalars, nothing that could run, repeat or hide."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from engine.text import one_line, plain

KeyPath = tuple[str | int, ...]  # ("teachers", 0, "arch")

MAX_BYTES = 256 * 1024
MAX_LEVELS = 20
LIMIT = 60  # characters of a given key or value that are shown
MAX_DIGITS = 300  # no number of a preset needs more, and Python refuses to read some that are longer

_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

_REFERENCE = "anchors (&) and aliases (*) are not allowed in a preset; write the value out where it is needed"
_MERGE = "<<: merge keys are not allowed in a preset; write the keys out"
_TAG = "YAML tags (!) are not allowed in a preset; write the plain value"

_SECOND = "a second document begins; a preset is one document, so remove what follows"

# What PyYAML says (a part of it), and what we say instead.
_SYNTAX = (
    ("mapping values are not allowed", "a ': ' where none can stand; mend the indentation, or put the value in quotes"),
    ("could not find expected ':'", "this line is neither 'key: value' nor a list item; add the ': '"),
    ("found character '\\t'", "a tab; indent and separate with spaces"),
    ("unknown escape", "a backslash in double quotes that begins no escape of YAML; double it, or use single quotes"),
    ("while scanning a quoted scalar", "a quoted text that is never closed; add the closing quote"),
    ("while parsing a flow mapping", "the '{{' of line {opened} is not closed properly; add the missing ',' or '}}'"),
    ("while parsing a flow sequence", "the '[' of line {opened} is not closed properly; add the missing ',' or ']'"),
    ("expected <block end>", "this line does not fit what stands above it; align it with its part, and quote a text as a whole"),
    ("expected the node content", "a value is missing here, or a bracket or comma is too many; correct it, or quote the text"),
    ("expected '<document start>'", _SECOND),
    ("undefined tag handle", _TAG),
    ("that cannot start any token", "a value cannot begin with this character; put the value in quotes"),
)


class YamlError(Exception):
    """What is wrong with the text: (line, sentence) pairs, the line counted from 1, in the order of the text."""

    def __init__(self, *problems: tuple[int, str]) -> None:
        super().__init__(problems)
        self.problems = tuple(sorted(problems))


@dataclass(slots=True)
class Document:
    """A text's data (mappings are dicts, sequences tuples) and, by path, the lines on which keys and values begin.

    A list or mapping that has a key begins where its key does.
    """

    data: Any = None
    keys: dict[KeyPath, int] = field(default_factory=dict)
    values: dict[KeyPath, int] = field(default_factory=dict)
    empty: bool = True


def scalar(text: str) -> Any:
    """What a scalar without quotes means in YAML 1.2's core schema: null, a boolean, a number, or the text itself."""
    if _NULL.fullmatch(text):
        return None
    if found := _BOOL.fullmatch(text):
        return found[1] is not None
    if _INT.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text[2:] if base != 10 else text, base)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


def read_yaml(text: str) -> Document:
    """The one document in `text`; `YamlError` for whatever a preset may not hold."""
    return _Reader(text).read()


def show(value: Any, depth: int = 2) -> str:
    """A given value as a preset would have it, short and harmless."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"'{plain(value, LIMIT)}'"
    if isinstance(value, float):
        return repr(value).replace("inf", ".inf").replace("nan", ".nan")
    if isinstance(value, Mapping):
        parts = [
            f"{plain(str(key), LIMIT)}: {show(value[key], depth - 1)}"
            for key, _ in zip(value, range(3 * (depth > 0)), strict=False)
        ]
        return plain("{" + _listed(parts, len(value)) + "}", LIMIT)
    if isinstance(value, tuple):
        return plain("[" + _listed([show(item, depth - 1) for item in value[: 3 * (depth > 0)]], len(value)) + "]", LIMIT)
    return plain(str(value), LIMIT)


def _listed(parts: list[str], count: int) -> str:
    return ", ".join(parts + ["…"] * (count > len(parts)))


class _Reader:
    """Turns PyYAML's events into a Document. Every refusal happens before anything is built or recursed into."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._document = Document()
        self._problems: list[tuple[int, str]] = []
        self._referred = False

    def read(self) -> Document:
        line = 1
        try:
            self._loader = yaml.SafeLoader(self._text)
            self._stream()
        except yaml.reader.ReaderError as error:
            line = self._text.count("\n", 0, error.position) + 1
            raise YamlError((line, f"the character U+{ord(self._text[error.position]):04X} is not allowed; remove it")) from None
        except yaml.MarkedYAMLError as error:
            raise YamlError(*self._problems, _syntax(error)) from None
        except (ValueError, OverflowError):  # PyYAML does not check that an escape such as "\Uffffffff" is a character
            line = self._loader.line + 1
            raise YamlError(*self._problems, (line, "an escape in quotes that is no character; correct or remove it")) from None
        if self._problems:
            raise YamlError(*self._problems)
        return self._document

    def _next(self) -> Any:
        return self._loader.get_event()  # type: ignore[no-untyped-call]

    def _stream(self) -> None:
        first = True
        while (event := self._next()) is not None:
            if isinstance(event, yaml.DocumentStartEvent):
                if not first:
                    raise YamlError(*self._problems, (_line(event), _SECOND))
                if event.tags:
                    self._problems.append((_line(event), _TAG))
                first = False
                root = self._next()
                empty = isinstance(root, yaml.ScalarEvent) and root.value == "" and root.implicit[0]
                self._document.empty = empty
                self._document.data = self._value(root, ())

    def _value(self, event: Any, path: KeyPath) -> Any:
        self._document.values[path] = _line(event)
        self._refuse(event, path)
        if isinstance(event, yaml.AliasEvent):
            return None
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if len(path) >= MAX_LEVELS:
            raise YamlError(*self._problems, (_line(event), f"more than {MAX_LEVELS} levels of nesting; no preset needs so many"))
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(item := self._next(), yaml.SequenceEndEvent):
                items.append(self._value(item, (*path, len(items))))
            return tuple(items)
        return self._mapping(path)

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key, line = self._key(event, path), _line(event)
            if key is None:
                self._value(self._next(), (*path, ""))
                continue
            here = (*path, key)
            if key in found:
                self._twice(here, line, found[key])
                continue
            self._document.keys[here] = line
            event = self._next()
            found[key] = self._value(event, here)
            if isinstance(event, yaml.CollectionStartEvent):
                self._document.values[here] = line
        return found

    def _twice(self, path: KeyPath, line: int, before: Any) -> None:
        first = self._document.keys[path]
        now = self._value(self._next(), path)
        given = f"first {show(before)} on line {first}, here {show(now)}"
        self._problems.append(
            (line, f"{dotted(path)}: the key '{plain(str(path[-1]), LIMIT)}' is given twice, {given}; remove one")
        )

    def _key(self, event: Any, path: KeyPath) -> str | None:
        self._refuse(event, path)
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
            if event.implicit[0] and event.value == "<<":
                self._problems.append((_line(event), f"{_in(path)}{_MERGE}"))
                self._referred = True  # the alias that follows is the same mistake
                return None
            if isinstance(value, str):
                return value
            shown = plain(event.value, LIMIT) or "null"
            self._problems.append((_line(event), f"the key {shown} is not text; a preset's keys are names such as train"))
        elif not isinstance(event, yaml.AliasEvent):
            self._problems.append((_line(event), "a list or mapping as a key; a preset's keys are names such as train"))
            self._skip()
        return None

    def _skip(self) -> None:
        levels = 1
        while levels:
            event = self._next()
            levels += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if levels > MAX_LEVELS:
                raise YamlError(*self._problems)

    def _scalar(self, event: Any) -> Any:
        if not event.implicit[0]:  # quoted, or a block of text
            return event.value
        if len(event.value) > MAX_DIGITS and (_INT.fullmatch(event.value) or _FLOAT.fullmatch(event.value)):
            self._problems.append((_line(event), f"a number of {len(event.value)} characters; write a shorter one"))
            return 0
        return scalar(event.value)

    def _refuse(self, event: Any, path: KeyPath) -> None:
        if event.anchor is not None and not self._referred:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            self._problems.append((_line(event), f"{_in(path)}{sign}{plain(event.anchor, LIMIT)}: {_REFERENCE}"))
            self._referred = True  # the others are the same mistake
        if (tag := getattr(event, "tag", None)) is not None:
            tag = plain(tag.replace("tag:yaml.org,2002:", "!!"), LIMIT)
            self._problems.append((_line(event), f"{_in(path)}{tag}: {_TAG}"))


def dotted(path: KeyPath) -> str:
    """A path as it is written in messages and in --set: teachers.0.arch."""
    return plain(".".join(str(step) for step in path), 120)


def _in(path: KeyPath) -> str:
    return f"{dotted(path)}: " if path else ""


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _syntax(error: yaml.MarkedYAMLError) -> tuple[int, str]:
    problem, context = error.problem or "cannot be read", error.context or ""
    unfinished = context == "while scanning a simple key" or "end of stream" in problem or "<stream end>" in problem
    mark = error.context_mark if unfinished and error.context_mark else error.problem_mark or error.context_mark
    line = 1 if mark is None else mark.line + 1
    for theirs, ours in _SYNTAX:
        if theirs in problem or theirs == context:
            return line, ours.format(opened=error.context_mark.line + 1 if error.context_mark else line)
    return line, f"not valid YAML: {one_line(f'{context}: {problem}' if context else problem, 160)}; correct or quote it"
