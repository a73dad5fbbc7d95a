"""A process that dies, or a call of the system's that fails, at a chosen one of the calls that change the disk."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class Crash(BaseException):
    """No Exception, as a kill would be none."""


class Saboteur:
    """Raises at call number `at`; `dead`: at every one after it too, as nothing more comes of a killed process.

    A write that is cut short leaves half of its bytes.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, dead: bool, at: int) -> None:
        self.calls, self.at, self.dead = 0, at, dead
        for name in ("fsync", "mkdir", "rename", "replace", "unlink", "rmdir"):
            monkeypatch.setattr(os, name, self._watched(getattr(os, name)))
        real = Path.open
        saboteur = self

        class Torn(io.FileIO):
            def write(self, data: Any) -> int:
                half = bytes(data)[: len(data) // 2]
                try:
                    saboteur.call()
                except Crash:
                    super().write(half)
                    raise
                return super().write(data)

        def open_(path: Path, mode: str = "r", *args: Any, **named: Any) -> Any:
            if mode != "wb":
                return real(path, mode, *args, **named)
            self.call()
            return Torn(path, mode)

        opened = os.fdopen

        def fdopen(handle: int, mode: str = "r", *args: Any, **named: Any) -> Any:
            if mode != "wb":
                return opened(handle, mode, *args, **named)
            self.call()
            return Torn(handle, mode)

        monkeypatch.setattr(Path, "open", open_)
        monkeypatch.setattr(os, "fdopen", fdopen)

    def call(self) -> None:
        """One call that changes the disk."""
        self.calls += 1
        if self.calls == self.at or (self.dead and self.calls > self.at):
            raise Crash

    def _watched(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            self.call()
            return real(*args, **named)

        return call
