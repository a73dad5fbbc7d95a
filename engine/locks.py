"""Locks on files (flock): how one is taken, and how somebody else tells whether it is held. The system frees it when its
process ends, however it ends.

Who looks whether a lock is held, holds it for a moment: who takes one looks several times. Over NFS these are locks of ranges:
an exclusive one needs a file that may be written, and a folder's is seen by its own machine alone.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from engine.errors import InUseError, UserError
from engine.untrusted import open_regular

LOOKS, APART = 20, 0.02  # seconds between two looks, until a lock is taken for held
LOOKS_OF_A_READER = 5  # at one that it would share with nobody: who else looks, is gone by then


def take(handle: int, *, shared: bool = False, looks: int = LOOKS) -> bool:
    """Whether the lock of an open file could be had; it is held until the last descriptor of this opening is closed.

    OSError where there are no locks.
    """
    for left in reversed(range(looks)):
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if left:
                time.sleep(APART)
        else:
            return True
    return False


def take_or_refuse(handle: int, where: str, busy: str) -> None:
    """Takes the lock of an open file. InUseError where another process has it (`busy`), UserError where there are no locks in the
    folder `where`; then the descriptor is closed.
    """
    try:
        if take(handle):
            return
    except OSError as error:
        os.close(handle)
        raise UserError(f"{where} cannot be locked ({error.strerror}); name a folder on another disk") from error
    os.close(handle)
    raise InUseError(busy)


def taken(path: Path, *, shared: bool = False, looks: int = LOOKS) -> int | None:
    """A descriptor that holds the lock of a file, which is made where it is not there; None where another process has it.

    OSError where the file cannot be opened to be written, or there are no locks.
    """
    handle = open_regular(path, os.O_RDWR | os.O_CREAT)
    try:
        if take(handle, shared=shared, looks=looks):
            return handle
    except OSError:
        os.close(handle)
        raise
    os.close(handle)
    return None


def held(path: Path, *, shared: bool = False) -> bool | None:
    """Whether a process has the lock of a file now; `shared`: those count, too, who share it. Makes no file.

    None where that cannot be told: the file cannot be opened (to be written, for shared ones), or there are no locks.
    """
    try:
        handle = open_regular(path, os.O_RDWR if shared else os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        return not take(handle, shared=not shared, looks=LOOKS_OF_A_READER if shared else 1)
    except OSError:
        return None
    finally:
        os.close(handle)
