"""The store of trained networks, as several processes that train together have it: the first one looks, and keeps. And what a
run keeps for itself, where the store does not take it.
"""

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
        """See TeacherStore; the same on every rank, OSError as well."""
        kept: Stored | None = None
        failed = OSError("the first process could not keep it")
        if self.ranks.first:
            try:
                kept = super().add(key, weights, facts)
            except OSError as error:
                failed = error
        said = self.ranks.sent(json.dumps(kept.facts).encode() if kept else None)
        if said is None:
            raise failed
        return kept or Stored(key, self.root / key, json.loads(said))


class SpareStore(SharedStore):
    """In a run's own folder: teachers that the store did not take. Trained anew, they might come to other bits, with which the
    run could not be resumed.
    """

    def _make_root(self) -> None:
        if self.root.is_symlink():
            raise OSError(f"{self.root} is a link; nothing is written through it")
        self.root.mkdir(mode=0o700, exist_ok=True)  # a run's folder that was deleted does not come back
