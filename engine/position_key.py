"""The number that stands for one use of randomness, as a function of where it is used. Needs no torch."""

from __future__ import annotations

import hashlib


def key(seed: int, purpose: str, *position: int | str) -> int:
    """A 63-bit number that stands for one use of randomness, such as (seed, "order", epoch)."""
    text = "\x1f".join(map(str, (seed, purpose, *position)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
