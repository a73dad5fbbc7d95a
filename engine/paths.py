"""Where things lie on this machine, and how a file is written so that nobody ever sees half of it."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import platformdirs

from engine.errors import UserError
from engine.text import plain

REMOVED = ".removed"  # how the names of folders end that are being deleted
_ASIDE = re.compile(r"\..+\.(\d+(-\d+)?\.removed|[a-z0-9_]+\.partial)")  # a process's number, or what tempfile makes up
HOUR = 3600.0  # seconds in which nobody deletes a folder without deleting anything of it
FULL = (errno.ENOSPC, errno.EDQUOT)  # what a write fails with where there is no room
_UNKNOWN = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF)  # file systems that cannot sync a folder (vboxsf, CIFS)


def _from_environment(variable: str) -> Path | None:
    value = os.environ.get(variable)
    try:
        return Path(value).expanduser().absolute() if value else None
    except RuntimeError as error:
        raise UserError(f"{variable} is {value}, but there is no such home folder; give a path that begins with /") from error


def expanded(path: str) -> Path:
    """A path that a person wrote, with the home that `~` stands for; as it is where there is no such home, as a shell does."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def is_file(path: Path) -> bool:
    """Whether there is a file of that name; not where none can have it, or where it may not be looked for."""
    with suppress(OSError, ValueError):
        return path.is_file()
    return False


def is_folder(path: Path) -> bool:
    """As `is_file`, of a folder."""
    with suppress(OSError, ValueError):
        return path.is_dir()
    return False


@contextmanager
def _at_home() -> Iterator[None]:
    """UserError where this user has no home folder, as in a container under a number that has no name."""
    try:
        yield
    except RuntimeError as error:
        raise UserError(
            "this user has no home folder to keep things in; set MMKD_CACHE and MMKD_TEACHERS to folders, or HOME"
        ) from error


def cache_dir() -> Path:
    """What can be made again: MMKD_CACHE, else the system's place for caches. UserError: neither is there."""
    with _at_home():
        return _from_environment("MMKD_CACHE") or Path(platformdirs.user_cache_dir("mmkd"))


def data_root() -> Path:
    """Where data sets are looked for and fetched to: MMKD_DATA, else in our cache."""
    return _from_environment("MMKD_DATA") or cache_dir() / "data"


def teacher_store() -> Path:
    """Where trained teachers are kept: MMKD_TEACHERS, else the system's place for a user's data. UserError: neither is there."""
    with _at_home():
        return _from_environment("MMKD_TEACHERS") or Path(platformdirs.user_data_dir("mmkd")) / "teachers"


def teacher_cache() -> Path:
    """Where teachers' outputs are kept: MMKD_TEACHER_CACHE, else in our cache."""
    return _from_environment("MMKD_TEACHER_CACHE") or cache_dir() / "teacher-outputs"


def inside(folder: Path, named_by: str) -> list[Path]:
    """What lies in a folder, hidden names left out; nothing where there is none yet. UserError where it is no folder, or may not
    be read; `named_by`: the option or variable that names another one.
    """
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise UserError(f"{plain(str(folder))} is not a folder; name another one with {named_by}") from None
    except OSError as error:
        raise UserError(
            f"{plain(str(folder))} cannot be read: {error.strerror or error}; name another folder with {named_by}"
        ) from error


def private_folder(folder: Path) -> None:
    """Makes a folder, and those above it that are missing, for this user alone. OSError where that cannot be done."""
    if not folder.is_dir():
        if folder.parent != folder:
            private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def remove_tree(path: Path) -> None:
    """Deletes a folder and all in it as far as that is possible; of a link to one, only the link."""
    if path.is_symlink():
        with suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def write_private(path: Path, content: bytes) -> None:
    """A new file that this user alone may read, on the disk when this returns. OSError where there is one already."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def written_aside(target: Path) -> Iterator[BinaryIO]:
    """A file of this user alone, put in `target`'s place when it is whole and on the disk; on any error the old one stays.

    OSError where its folder is missing: a run's folder that was deleted does not come back because of a file in it.
    """
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
    """Writes a small file so that a reader sees the old one or the new one.

    What UTF-8 cannot write (bytes in a path that are none) becomes its escape, which JSON reads back the same.
    """
    with written_aside(target) as file:
        file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


def sync_folder(folder: Path) -> None:
    """Makes a rename within `folder` survive a power cut, where its file system can do that."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise
    finally:
        os.close(handle)


def put_aside(folder: Path) -> Path:
    """Renames a folder that is to be deleted, in one step, so that nobody finds half of it. OSError where that is not allowed."""
    with suppress(OSError):
        os.utime(folder)  # so that nobody takes it for a leftover
    return folder.rename(folder.with_name(f".{folder.name}.{os.getpid()}{REMOVED}"))


def delete(folder: Path) -> None:
    """With all that is in it. OSError where that is not allowed; somebody else may be deleting it as well."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        shutil.rmtree(folder, ignore_errors=True)


def delete_leftovers(root: Path, ending: str, age: float) -> None:
    """Deletes what processes that were killed left in the middle of writing or deleting it: folders in `root` whose names are as
    ours are then, and have this ending, and in which nothing has come or gone for `age` seconds.
    """
    for path in root.glob(f".*{ending}"):
        with suppress(OSError):
            if _ASIDE.fullmatch(path.name) and time.time() - path.lstat().st_mtime > age:
                shutil.rmtree(path)
