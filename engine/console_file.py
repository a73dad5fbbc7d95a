"""Keeps `console.log` small: libraries write there, too, and nobody can tell them to stop."""

from __future__ import annotations

import os
from contextlib import suppress

from engine.paths import written_aside
from engine.run_dir import RunDir
from engine.untrusted import open_regular, read_tail

LIMIT = 8 << 20  # bytes; so many of the end are then in `console.log.1`, and the file begins anew


def bound_console(run_dir: RunDir, limit: int = LIMIT) -> None:
    """Moves the end of a console that has grown too large aside. It is emptied in its place: whoever writes to it holds it open,
    child processes too. A full disk only puts it off.
    """
    with suppress(OSError):
        handle = open_regular(run_dir.console, os.O_WRONLY)
        try:
            if os.fstat(handle).st_size <= limit:
                return
            with written_aside(run_dir.console_before) as file:
                file.write(read_tail(run_dir.console, limit))
            os.ftruncate(handle, 0)
        finally:
            os.close(handle)
