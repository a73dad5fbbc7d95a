"""What NFS does otherwise than a local disk, on a local disk: deleting what is open, and locks."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Any

import pytest


def files_that_are_open_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that this machine has open gets another name where it is deleted (a silly rename), and its folder stays with it."""
    real = os.unlink

    def unlink(path: Any, *, dir_fd: int | None = None) -> None:
        if _is_open(os.stat(path, dir_fd=dir_fd, follow_symlinks=False)):
            hidden = os.path.join(os.path.dirname(path), f".nfs{os.urandom(8).hex()}")  # noqa: PTH118, PTH120
            os.rename(path, hidden, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        else:
            real(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)


def _is_open(found: os.stat_result) -> bool:
    for link in Path("/proc/self/fd").iterdir():
        try:
            if os.path.samestat(os.fstat(int(link.name)), found):
                return True
        except OSError:
            continue  # what listed them is closed
    return False


def locks_of_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """flock is made of POSIX locks: an exclusive one takes a file that may be written. A folder's is seen by nobody else."""
    real = fcntl.flock

    def flock(handle: Any, how: int) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        if stat.S_ISDIR(os.fstat(number).st_mode):
            return
        if how & fcntl.LOCK_EX and fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        real(number, how)

    monkeypatch.setattr(fcntl, "flock", flock)


def mounted_at(monkeypatch: pytest.MonkeyPatch, place: Path, kind: str = "nfs") -> None:
    """A mount of this kind, as the system's own table says it."""
    real = Path.read_text
    name = str(place).replace(" ", "\\040")

    def read_text(path: Path, *args: Any, **named: Any) -> str:
        text = real(path, *args, **named)
        return text + f"server:/x {name} {kind} rw 0 0\n" if path == Path("/proc/self/mounts") else text

    monkeypatch.setattr(Path, "read_text", read_text)
