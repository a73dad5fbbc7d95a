"""A system that does not do what is asked of it at one place: the call fails with a number, as the real one does."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def refused(monkeypatch: pytest.MonkeyPatch, call: str, place: Path, number: int) -> None:
    """From now on `os.<call>` fails with this error for `place`; "list" is what Python lists a folder with."""

    def picky(real: Callable[..., Any]) -> Callable[..., Any]:
        def called(path: Any = ".", *args: Any, **named: Any) -> Any:
            if not isinstance(path, int) and Path(os.fspath(path)) == place:
                raise OSError(number, os.strerror(number), str(place))
            return real(path, *args, **named)

        return called

    for name in ("listdir", "scandir") if call == "list" else (call,):
        monkeypatch.setattr(os, name, picky(getattr(os, name)))


def little_memory(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A machine with so many bytes."""
    real = os.sysconf
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": size}.get(name) or real(name))
