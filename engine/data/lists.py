"""Lists of pictures as publishers give them: read within bounds, and no path leads out of the pictures' folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from engine.errors import UserError
from engine.text import one_line

MOST = 64 << 20  # bytes of a list


def lines_of(path: Path) -> list[str]:
    """The lines of a list that are not empty. UserError where it cannot be read, or is far too long."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; make it readable, or fetch it again") from error
    if len(content) > MOST:
        raise UserError(f"{path} has more than {MOST >> 20} MB; it is not the publisher's list")
    return [line.strip() for line in content.decode("utf-8", "surrogateescape").splitlines() if line.strip()]


def pairs_of(path: Path) -> dict[str, str]:
    """The lines `KEY VALUE` of a list. UserError with the line where one is none."""
    found = {}
    for number, line in enumerate(lines_of(path), start=1):
        key, _, value = line.partition(" ")
        if not value:
            raise UserError(f"{path}:{number}: {one_line(line, 80)!r} is not a number and a value; fetch it again")
        found[key] = value.strip()
    return found


def inside(relative: str, root: Path, source: Path, number: int) -> str:
    """A path below `root`. UserError about the entry `number` of `source` where it leads out of it, also by a link."""
    pure = PurePosixPath(relative)
    if pure.is_absolute() or ".." in pure.parts or "\0" in relative:
        raise UserError(f"{source}:{number}: {one_line(relative, 200)} is not below {root}; the list is not the publisher's")
    path = root / relative
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{os.fspath(path)} is a link that leads out of {root}; put the picture in its place")
    return relative


def numbered(names: Mapping[int, str], source: Path) -> tuple[str, ...]:
    """Names by number, from 0 on without a gap. UserError where one is missing."""
    if sorted(names) != list(range(len(names))):
        raise UserError(f"{source} does not number its classes without a gap; it is not the publisher's list")
    return tuple(names[number] for number in range(len(names)))


def spaced(name: str) -> str:
    """`Japanese_spaniel` -> `Japanese spaniel`."""
    return name.replace("_", " ")
