"""Every test has a teacher store, a cache, a data root and a configuration of its own; fixtures that serve several tests, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Before torch is imported, here and in subprocesses: the tests' networks are so small that a second thread only waits.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Subprocesses find the packages, whatever folder they are in, and what whoever started us lets us find.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


@pytest.fixture(scope="session", autouse=True)
def places_of_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """For fixtures of a module, which are made before a test's own places. In the user's, they would find the locks of GPUs that
    other workers' runs hold, and leave behind what they make.
    """
    with pytest.MonkeyPatch.context() as patch:
        _settle(tmp_path_factory.mktemp("places"), patch)
        yield


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _settle(tmp_path, monkeypatch)


def _settle(folder: Path, patch: pytest.MonkeyPatch) -> None:
    for place in ("teachers", "cache", "data", "config"):
        patch.setenv(f"MMKD_{place.upper()}", str(folder / f"own-{place}"))
    patch.delenv("MMKD_TEACHER_CACHE", raising=False)  # a part of the cache, unless somebody says otherwise
