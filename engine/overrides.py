"""Lays `--set train.epochs=3` over a preset's data, and remembers which override wrote what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.preset import Preset
from engine.text import plain
from engine.yaml_lines import LIMIT, MAX_LEVELS, KeyPath, YamlError, dotted, read_yaml, show

MAX_CHARACTERS = 10_000
_INDEX = re.compile(r"[0-9]{1,6}")


class OverrideError(Exception):
    """An override that cannot be laid over the data; `str(error)` is the line for the user."""


def source_of(override: str) -> str:
    """An override as messages name it."""
    return f"--set {plain(override, LIMIT)}"


def apply(data: Any, override: str) -> tuple[Any, list[KeyPath]]:
    """`data` with one override laid over it, and the paths that it wrote (parts it had to create included)."""
    try:
        steps, value = _read(override)
        written: list[KeyPath] = []
        return _put(data, steps, value, (), written), written
    except OverrideError as error:
        raise OverrideError(f"{source_of(override)}: {error}") from None


def lay(data: Any, key: str, value: Any) -> tuple[Any, list[KeyPath]]:
    """As `apply`, for a key such as `train.lr` and a value that has been read already."""
    steps = key.split(".")
    if not all(steps) or len(steps) > MAX_LEVELS:
        raise OverrideError("is no setting; write for example train.lr")
    written: list[KeyPath] = []
    return _put(data, steps, value, (), written), written


def laid_over(base: Any, over: Any) -> Any:
    """`base` with `over` on it: mappings are merged, anything else is replaced."""
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return {**base, **{key: laid_over(base.get(key), value) for key, value in over.items()}}
    return over


def flattened(value: Any, key: str = "") -> dict[str, Any]:
    """{"train": {"epochs": 3}} -> {"train.epochs": 3}; teachers, a list of mappings, by their numbers."""
    inner: Iterable[tuple[Any, Any]]
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        inner = enumerate(value)
    else:
        return {key: value}
    found: dict[str, Any] = {}
    for name, one in inner:
        found |= flattened(one, f"{key}.{name}" if key else str(name))
    return found


def _read(override: str) -> tuple[list[str], Any]:
    where, equals, text = override.partition("=")
    steps = where.strip().split(".")
    if not equals or not all(steps):
        raise OverrideError("an override is KEY=VALUE, for example train.epochs=3")
    if len(steps) > MAX_LEVELS or len(override) > MAX_CHARACTERS:
        raise OverrideError("is longer than any setting; an override is KEY=VALUE, for example train.epochs=3")
    try:
        return steps, read_yaml(text).data
    except YamlError as error:
        raise OverrideError(f"the value is no YAML value: {error.problems[0][1]}") from None


def _put(node: Any, steps: Sequence[str], value: Any, path: KeyPath, written: list[KeyPath]) -> Any:
    """A copy of `node` in which `value` stands at `steps`."""
    if not steps:
        written.append(path)
        return value
    if node is None:
        written.append(path)
        node = _new_part(path)
    step, rest = steps[0], steps[1:]
    if isinstance(node, Mapping):
        return {**node, step: _put(node.get(step), rest, value, (*path, step), written)}
    if isinstance(node, tuple):
        items = list(node)
        for index in _indices(step, len(items), path):
            items[index] = _put(items[index], rest, value, (*path, index), written)
        return tuple(items)
    raise OverrideError(
        f"{dotted(path)} is {show(node)}, which has no '{plain(step, LIMIT)}' to set; set {dotted(path)} as a whole"
    )


def _new_part(path: KeyPath) -> dict[str, Any]:
    """What a part that the preset does not give begins as: nothing, but the default method keeps its name."""
    return {"name": Preset.model_fields["method"].default.name} if path == ("method",) else {}


def _indices(step: str, count: int, path: KeyPath) -> list[int]:
    name = dotted(path)
    if not count:
        raise OverrideError(f"{name} is an empty list, so there is nothing to set; give {name} as a whole")
    if step == "*":
        return list(range(count))
    if not _INDEX.fullmatch(step):
        raise OverrideError(f"{name} is a list, and '{plain(step, LIMIT)}' is no index; use 0 to {count - 1}, or * for all")
    if int(step) >= count:
        raise OverrideError(
            f"{name} has {count} elements, counted from 0, so there is no {int(step)}; use 0 to {count - 1}, or * for all"
        )
    return [int(step)]
