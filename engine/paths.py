"""Where things lie on this machine, and how a file is written so that nobody ever sees half of it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import platformdirs

FULL = (errno.ENOSPC, errno.EDQUOT)  # what a write fails with where there is no room


def _from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser().absolute() if value else None


def cache_dir() -> Path:
    """What can be made again: MMKD_CACHE, else the system's place for caches."""
    return _from_environment("MMKD_CACHE") or Path(platformdirs.user_cache_dir("mmkd"))


def data_root() -> Path:
    """Where data sets are looked for and fetched to: MMKD_DATA, else in our cache."""
    return _from_environment("MMKD_DATA") or cache_dir() / "data"


def teacher_store() -> Path:
    """Where trained teachers are kept: MMKD_TEACHERS, else the system's place for a user's data."""
    return _from_environment("MMKD_TEACHERS") or Path(platformdirs.user_data_dir("mmkd")) / "teachers"


def teacher_cache() -> Path:
    """Where teachers' outputs are kept: MMKD_TEACHER_CACHE, else in our cache."""
    return _from_environment("MMKD_TEACHER_CACHE") or cache_dir() / "teacher-outputs"


@contextmanager
def written_aside(target: Path) -> Iterator[BinaryIO]:
    """A file to write, put in `target`'s place when it is whole and on the disk; on any error the old one stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def write_whole(target: Path, content: str | bytes) -> None:
    """Writes a small file so that a reader sees the old one or the new one."""
    with written_aside(target) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def sync_folder(folder: Path) -> None:
    """Makes a rename within `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
