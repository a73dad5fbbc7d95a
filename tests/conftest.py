"""Every test has a teacher store, a cache and a data root of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch is imported, here and in subprocesses: the tests' networks are so small that a second thread only waits.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("teachers", "cache", "data", "config"):
        monkeypatch.setenv(f"MMKD_{place.upper()}", str(tmp_path / f"own-{place}"))
    monkeypatch.delenv("MMKD_TEACHER_CACHE", raising=False)  # a part of the cache, unless somebody says otherwise
