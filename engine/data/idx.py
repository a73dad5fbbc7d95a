"""The header of an IDX file, checked before the rest is believed."""

from __future__ import annotations

import math
import os
from pathlib import Path

from engine.errors import UserError

REMEDY = "remove it and get it again"
_BYTES = 0x08  # the type code of unsigned bytes


def idx_sizes(path: Path, dimensions: int, shown: Path) -> tuple[int, ...]:
    """The sizes of an array of bytes, as the header gives them.

    The header: two zero bytes, the type, the number of dimensions, then each size as 4 bytes, big end first
    (yann.lecun.com/exdb/mnist). UserError about the file `shown` where it is no such file, or longer or shorter than its
    header says.
    """
    length = 4 + 4 * dimensions
    try:
        with path.open("rb") as file:
            header, actual = file.read(length), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise UserError(f"{shown} cannot be read: {error.strerror}; make it readable") from error
    if header[:4] != bytes((0, 0, _BYTES, dimensions)):
        raise UserError(f"{shown} is no IDX file of bytes in {dimensions} dimension{'s' if dimensions > 1 else ''}; {REMEDY}")
    sizes = tuple(int.from_bytes(header[start : start + 4], "big") for start in range(4, length, 4))
    expected = length + math.prod(sizes)
    if len(header) < length or actual != expected:
        raise UserError(f"{shown} is damaged: it holds {actual:,} bytes where its header says {expected:,}; {REMEDY}")
    return sizes
