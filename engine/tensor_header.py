"""The header of a safetensors file, bounded before anybody reads it: a JSON object with an entry for each tensor."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import BinaryIO

from engine.untrusted import open_picture

MOST_BYTES = 8 << 20  # of a header; a tensor takes some 100 of them
HUB_WEIGHTS = "model.safetensors"  # the file in a folder as hubs have them
CUT_SHORT = "its end is missing; copy it again, and compare the sizes"


def check_header(file: BinaryIO, most: int) -> None:
    """ValueError where a file, from where it stands, begins with no header of at most `most` entries.

    The first 8 bytes are the header's length, the small end first (github.com/huggingface/safetensors, "Format").
    """
    size = int.from_bytes(file.read(8), "little")
    if size > MOST_BYTES:
        raise ValueError(f"its header would be {size:,} bytes long, and no network's has more than {MOST_BYTES >> 20} MB")
    try:
        header = json.loads(file.read(size))
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(header, dict) or len(header) > most:
        raise ValueError(f"its header is no list of at most {most:,} tensors")


def is_cut_short(path: Path) -> bool:
    """Whether a file that begins as safetensors ends before its header, or the last of its tensors, does."""
    try:
        with os.fdopen(open_picture(str(path)), "rb") as file:
            return _ends_too_soon(file)
    except OSError:
        return False


def _ends_too_soon(file: BinaryIO) -> bool:
    whole = file.seek(0, os.SEEK_END)
    file.seek(0)
    size = int.from_bytes(file.read(8), "little")
    if whole < 8 or size > MOST_BYTES:
        return whole < 8
    text = file.read(size)
    if len(text) < size or text[:1] != b"{":
        return text[:1] in (b"", b"{")
    try:
        ends = [entry["data_offsets"][1] for name, entry in json.loads(text).items() if name != "__metadata__"]
        return whole < 8 + size + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return False
