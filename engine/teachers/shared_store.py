"""The store of trained networks, as several processes that train together have it: the first one looks, and keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.ranks import Ranks
from engine.teachers.store import Stored, TeacherStore


class SharedStore(TeacherStore):
    """Of the first rank; the others are sent what it finds. Every rank must make the same calls."""

    def __init__(self, root: Path, ranks: Ranks) -> None:
        super().__init__(root)
        self.ranks = ranks

    def find(self, key: str) -> tuple[Stored, bytes] | None:
        """See TeacherStore."""
        found = super().find(key) if self.ranks.first else None
        facts = self.ranks.sent(json.dumps(found[0].facts).encode() if found else None)
        data = self.ranks.sent(found[1] if found else None)
        if facts is None or data is None:
            return None
        return (found[0] if found else Stored(key, self.root / key, json.loads(facts))), data

    def set_aside(self, key: str, why: str) -> None:
        """See TeacherStore."""
        if self.ranks.first:
            super().set_aside(key, why)

    def add(self, key: str, weights: bytes, facts: dict[str, Any]) -> Stored:
        """See TeacherStore."""
        if self.ranks.first:
            return super().add(key, weights, facts)
        return Stored(key, self.root / key, facts)
