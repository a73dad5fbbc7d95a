"""Puts finished files where a user wants them: whole or not at all, and never over what is there unless that is meant."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import UserError
from engine.paths import sync_folder, write_private
from engine.text import plain


def refuse_existing(targets: tuple[Path, ...], force: bool) -> None:
    """UserError where one is there already, or cannot be: found out before anything is spent."""
    for target in targets:
        if target.is_dir():
            raise UserError(f"{plain(str(target))} is a folder; name a file")
        if os.path.lexists(target) and not force:
            raise UserError(f"{plain(str(target))} is there already; name another place by -o, or give --force to replace it")


@contextmanager
def workshop(folder: Path) -> Iterator[Path]:
    """A folder of one's own (0700) within `folder`, on the same disk, gone afterwards. UserError where there cannot be one."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        bench = Path(tempfile.mkdtemp(prefix=".mmkd-export-", suffix=".partial", dir=folder))
    except OSError as error:
        raise UserError(
            f"nothing can be written to {plain(str(folder))}: {error.strerror or error}; name another place"
        ) from error
    try:
        yield bench
    except OSError as error:
        raise UserError(f"{plain(str(folder))} cannot be written to: {error.strerror or error}; name another place") from error
    finally:
        shutil.rmtree(bench, ignore_errors=True)


def write(path: Path, content: str | bytes) -> Path:
    """A new file (0600), on the disk when this returns."""
    write_private(path, content.encode() if isinstance(content, str) else content)
    return path


def put(made: Path, target: Path, force: bool) -> None:
    """Gives a finished file its name in one step. UserError where somebody else was first and `force` is not given."""
    if force:
        made.replace(target)
    else:
        try:
            os.link(made, target, follow_symlinks=False)  # unlike a rename, it never replaces
        except FileExistsError:
            raise UserError(f"{plain(str(target))} is there already; give --force to replace it") from None
        except OSError:  # a disk without links
            refuse_existing((target,), force)
            made.replace(target)
    sync_folder(target.parent)
