"""Files of a folder that anybody may have written: opened without following links or waiting for pipes, read within bounds."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from engine.control_group import memory
from engine.errors import UnreadableError

MOST = 1 << 20  # bytes of a small file
LATEST = 250_000_000_000  # seconds since the epoch, in the year 9892: calendars end with 9999
# What a file itself is to blame for: it is not there, is a link, a socket. Errors of our own have no number.
_OWN = (None, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file (made with mode 0600 if `flags` say so). OSError where it is a link, a pipe, a device."""
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(f"{path} is not a regular file")
    return handle


def is_file_of(handle: int, path: Path) -> bool:
    """Whether a descriptor is that of the file that has this name now."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except OSError:
        return False


def is_there(path: Path) -> bool:
    """OSError where that cannot be told now: Path.exists takes some of these errors for a no."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def open_picture(path: str) -> int:
    """A descriptor of a regular file to read; a link is followed, whose target was looked at. OSError for anything else."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError("it is not a regular file")
    return handle


def read_regular(path: Path, most: int) -> bytes:
    """All of a regular file of at most `most` bytes. OSError where it is none such."""
    with os.fdopen(open_regular(path), "rb") as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(f"{path} has more than {most:,} bytes")
        return file.read(most)


def read_whole(path: Path, said: object) -> bytes:
    """All of a regular file that is said to have `said` bytes. OSError where it has others; MemoryError where it has, but they
    are more than this process should hold.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != said:
            raise OSError(f"{path} has {size:,} bytes, not what is said of it")
        if size > half_of_memory():
            raise MemoryError(f"its {size:,} bytes are more than half of the memory that this process may have")
        return file.read(size)


@contextmanager
def readable(path: Path, remedy: str = "try again") -> Iterator[None]:
    """For what reads `path`. UnreadableError where the system does not give it now; an error that the file is itself to blame
    for (it is not there, no regular file, too large) stays as it is.
    """
    try:
        yield
    except MemoryError as error:
        why = str(error) or "there is not enough memory"
        raise UnreadableError(f"{path} cannot be read now: {why}; nothing was changed: {remedy}") from error
    except OSError as error:
        if is_to_blame(error):
            raise
        raise UnreadableError(f"{path} cannot be read now: {error.strerror}; nothing was changed: {remedy}") from error


def half_of_memory() -> int:
    """Bytes. What is larger is not read into memory as a whole."""
    return memory().total // 2


def is_to_blame(error: OSError) -> bool:
    """Whether it is the file that an error comes from, and not the system, which may give it another time."""
    return error.errno in _OWN


def open_to_append(path: Path) -> TextIO:
    """A text file that is only ever added to; made where it is not there."""
    return os.fdopen(open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "a", encoding="utf-8", errors="backslashreplace")


def read_object(path: Path, most: int = MOST, *, follow: bool = False) -> dict[str, Any] | None:
    """The JSON object in a file of at most `most` bytes; None for anything else. Numbers that are not finite become null.

    `follow`: a link to one is as good.
    """
    try:
        with os.fdopen(open_picture(str(path)) if follow else open_regular(path), "rb") as file:
            content = file.read(most + 1)
    except OSError:
        return None
    return object_in(content) if len(content) <= most else None


def object_in(content: bytes) -> dict[str, Any] | None:
    """The JSON object that a file holds, as `read_object`."""
    try:
        found = json.loads(content, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def read_tail(path: Path, most: int) -> bytes:
    """The last `most` bytes of a file, or all of it; nothing where it cannot be read."""
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - most, 0))
            return file.read(most)
    except OSError:
        return b""


def as_number(value: object) -> float | None:
    """A number that can be reckoned with; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < 2**63 else None


def as_share(value: object) -> float | None:
    """A number in 0..1; None for anything else."""
    number = as_number(value)
    return number if number is not None and 0 <= number <= 1 else None


def as_moment(value: object) -> float | None:
    """Seconds since the epoch that a calendar can show; None for anything else."""
    number = as_number(value)
    return number if number is not None and 0 <= number <= LATEST else None


def as_text(value: object) -> str:
    """A text; the empty one for anything else."""
    return value if isinstance(value, str) else ""


def _finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None
