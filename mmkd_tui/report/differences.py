"""What differs between the presets of several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.text import one_line
from mmkd_tui.report.record import Record

LONGEST = 60  # characters of a value


def differences(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """Settings that are not the same in all of them: the dotted key, and each run's value ("" where it has none)."""
    flat = [dict(_flattened(record.preset.model_dump(mode="json"))) if record.preset else {} for record in records]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    rows = [(key, [_told(settings[key]) if key in settings else "" for settings in flat]) for key in keys]
    return [(one_line(key, 80), values) for key, values in rows if len(set(values)) > 1]


def _flattened(value: Any, key: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        return [leaf for name, inner in value.items() for leaf in _flattened(inner, f"{key}.{name}" if key else str(name))]
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        return [leaf for number, inner in enumerate(value) for leaf in _flattened(inner, f"{key}.{number}")]
    return [(key, value)]


def _told(value: Any) -> str:
    return one_line("none" if value is None else str(value), LONGEST)
