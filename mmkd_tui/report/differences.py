"""What differs between the presets of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.overrides import flattened
from engine.text import one_line
from mmkd_tui.report.record import Record

LONGEST = 60  # characters of a value


def differences(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """Settings that are not the same in all of them: the dotted key, and each run's value ("" where it has none)."""
    flat = [flattened(record.preset.model_dump(mode="json")) if record.preset else {} for record in records]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    rows = [(key, [_told(settings[key]) if key in settings else "" for settings in flat]) for key in keys]
    return [(one_line(key, 80), values) for key, values in rows if len(set(values)) > 1]


def _told(value: Any) -> str:
    return one_line("none" if value is None else str(value), LONGEST)
