"""Pictures that a file server does not give for a while, in whatever process; and decoders that wait less for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine import pictures

PAUSES = (0.01, 0.01)


def take_away(path: Path) -> None:
    """To read it is an input/output error from now on."""
    path.rename(path.with_suffix(".away"))
    path.symlink_to("/proc/self/mem")  # where nothing is mapped at its first byte


def bring_back(path: Path) -> None:
    """As it was, with the time of its last change."""
    path.with_suffix(".away").replace(path)


@contextmanager
def away(*paths: Path) -> Iterator[None]:
    """Pictures that cannot be read meanwhile."""
    for path in paths:
        take_away(path)
    yield
    for path in paths:
        bring_back(path)


def serve(handle: int) -> None:
    """A decoding process."""
    pictures.PAUSES = PAUSES
    pictures.serve(handle)
