"""Every test has a teacher store, a cache and a data root of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, folder in (("MMKD_TEACHERS", "teachers"), ("MMKD_CACHE", "cache"), ("MMKD_DATA", "data")):
        monkeypatch.setenv(variable, str(tmp_path / f"own-{folder}"))
