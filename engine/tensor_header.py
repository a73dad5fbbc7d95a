"""The header of a safetensors file, bounded before anybody reads it: a JSON object with an entry for each tensor."""

from __future__ import annotations

import json
from typing import BinaryIO

MOST_BYTES = 8 << 20  # of a header; a tensor takes some 100 of them


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
