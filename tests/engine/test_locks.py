"""Locks on files: who looks at one in passing keeps nobody out, and what cannot be told is told as such."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.nfs import locks_of_ranges

from engine import locks
from engine.errors import UserError
from engine.sweeps.manifest import SweepLock
from engine.teachers.cache_files import CacheStore

ROOT = Path(__file__).parents[2]
KEY = "0123456789abcdef"


@contextmanager
def watched(looks: str, place: Path) -> Iterator[None]:
    """Another process that looks at a lock without a pause."""
    code = (
        f"import sys\nfrom pathlib import Path\n{looks}\nprint('begun', flush=True)\nwhile True:\n    look(Path(sys.argv[1]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(place)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            yield
        finally:
            process.kill()


@contextmanager
def passing(lock: Path) -> Iterator[None]:
    """Somebody who looks whether anybody shares a lock, and is held up for a tenth of a second."""
    with lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        leaving = threading.Timer(0.1, fcntl.flock, (file, fcntl.LOCK_UN))
        leaving.start()
        try:
            yield
        finally:
            leaving.join()


def test_a_home_screen_that_looks_refuses_no_sweep(tmp_path: Path) -> None:
    SweepLock(tmp_path).release()
    with watched("from engine.sweeps.manifest import is_worked_on as look", tmp_path):
        for _ in range(1000):
            SweepLock(tmp_path).release()
    held = SweepLock(tmp_path)
    with pytest.raises(UserError, match="another command is at work"):
        SweepLock(tmp_path)
    held.release()


def test_who_looks_at_the_teacher_cache_takes_nothing_from_runs(tmp_path: Path) -> None:
    store = CacheStore(tmp_path)
    store.use(KEY, {}).close()
    (entry,) = store.entries()
    with passing(entry.path / "use.lock"):
        used = store.use(KEY, {})
    (entry,) = store.entries()
    assert entry.in_use
    with pytest.raises(UserError, match="in use by a run"):
        store.remove(entry)
    used.close()
    with passing(entry.path / "use.lock"):
        store.remove(entry)
    assert store.entries() == []


def test_two_that_list_the_teacher_cache_do_not_take_each_other_for_runs(tmp_path: Path) -> None:
    store = CacheStore(tmp_path)
    store.use(KEY, {}).close()
    with watched("from engine.teachers.cache_files import CacheStore\nlook = lambda path: CacheStore(path).entries()", tmp_path):
        assert not any(entry.in_use for _ in range(500) for entry in store.entries())


def test_what_cannot_be_told_is_not_taken_for_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    assert locks.held(lock) is False
    assert not lock.exists()
    (tmp_path / "link").symlink_to(lock)
    assert locks.held(tmp_path / "link") is None
    handle = locks.taken(lock)
    assert handle is not None
    assert (locks.held(lock), locks.held(lock, shared=True), locks.taken(lock, looks=1)) == (True, True, None)
    os.close(handle)
    assert (locks.held(lock), locks.held(lock, shared=True)) == (False, False)

    def without(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", without)
    assert (locks.held(lock), locks.held(lock, shared=True)) == (None, None)
    with pytest.raises(OSError, match="lock"):
        locks.taken(lock)
    assert not [link for link in Path("/proc/self/fd").iterdir() if os.path.realpath(link) == str(lock)]


def test_over_nfs_a_lock_that_is_shared_is_seen_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks_of_ranges(monkeypatch)
    handle = locks.taken(tmp_path / "lock", shared=True)
    assert handle is not None
    assert (locks.held(tmp_path / "lock"), locks.held(tmp_path / "lock", shared=True)) == (False, True)
    os.close(handle)
    assert locks.held(tmp_path / "lock", shared=True) is False
