"""Whether a run still has its folder: one that was deleted, moved away or made read-only takes nothing any more."""

from __future__ import annotations

import os
import time
from pathlib import Path

from engine.errors import TrainingError

LOOK_EVERY = 1.0  # seconds between two looks


class FolderWatch:
    """Of one run's folder, as it is now."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found = os.stat(folder)  # noqa: PTH116  its device and inode
        self._looked = time.monotonic()

    def look(self) -> None:
        """Now and then. TrainingError where the folder is gone or cannot be written any more."""
        now = time.monotonic()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        if (why := self.why_gone()) is not None:
            raise TrainingError(why)

    def why_gone(self) -> str | None:
        """What is wrong with it, and what to do; None where nothing is."""
        try:
            there = os.path.samestat(os.stat(self._folder), self._found)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            there = False
        except OSError:
            return None  # a network that is away for a moment
        if not there:
            return f"the run's folder {self._folder} was deleted or moved away while it was at work; start a new run"
        if not os.access(self._folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            return (
                f"the run's folder {self._folder} cannot be written any more; make it writable, and mmkd resume goes on from its "
                "last checkpoint"
            )
        return None
