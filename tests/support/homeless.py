"""A user without a home folder, as in a container that was started under a number (docker run -u 1234)."""

from __future__ import annotations

import os
import pwd

import pytest


def without_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither HOME, nor an entry in the system's table of users, nor places named by MMKD_ and XDG_ variables."""
    for name in list(os.environ):
        if name == "HOME" or name.startswith(("MMKD_", "XDG_")):
            monkeypatch.delenv(name)

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
