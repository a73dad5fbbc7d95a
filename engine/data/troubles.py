"""Pictures that cannot be read: each is named once, a bounded number of them, and all are counted."""

from __future__ import annotations

from collections.abc import Callable

NAMED = 20  # pictures; further ones are only counted


class Troubles:
    """Collects what is wrong, and tells it to who listens."""

    def __init__(self) -> None:
        self._paths: set[str] = set()
        self._waiting: list[tuple[str, str]] = []
        self._listener: Callable[[str, str], None] | None = None

    @property
    def count(self) -> int:
        """Pictures that could not be read."""
        return len(self._paths)

    def listen(self, listener: Callable[[str, str], None]) -> None:
        """Calls `listener` with the level ("warning" or "info") and the text of each message, also of those from before."""
        self._listener = listener
        for level, message in self._waiting:
            listener(level, message)
        self._waiting.clear()

    def broken(self, path: str, why: str, what_instead: str) -> None:
        """A picture that cannot be read; a second time it is not told."""
        if path in self._paths:
            return
        self._paths.add(path)
        if self.count <= NAMED:
            self.say(f"{path} cannot be read: {why}; {what_instead}")
        elif self.count == NAMED + 1:
            self.say(
                f"more than {NAMED} pictures cannot be read; further ones are counted, not named (mmkd data check names all)"
            )

    def say(self, message: str, level: str = "warning") -> None:
        """Anything else that a person should know."""
        if self._listener is None:
            self._waiting.append((level, message))
        else:
            self._listener(level, message)

    def conclude(self) -> None:
        """At the end of a run: how many there were, where that was not told."""
        if self.count > NAMED:
            self.say(f"{self.count:,} pictures could not be read in all")
