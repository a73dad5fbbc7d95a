"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Grade = Literal["ok", "note", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`value` says what is there. A warning or a problem has a remedy; a note may have one. Texts may hold what files say."""

    section: str
    name: str
    value: str
    grade: Grade = "ok"
    remedy: str = ""
