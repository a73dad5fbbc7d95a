"""WebDataset shards of our own making."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from support import picture_sets as sets


def sample(number: int, label: int, width: int = 40, height: int = 36) -> dict[str, bytes]:
    return {f"{number:05}.jpg": sets.jpeg(number, width, height), f"{number:05}.cls": f"{label}\n".encode()}


def shard(path: Path, content: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(sets.tar(content))


def shards(
    root: Path, train: int = 3, each: int = 6, tests: int = 8, classes: int = 2, width: int = 40, height: int = 36
) -> None:
    """`train` shards of `each` pictures, and one to test on."""
    number = 0
    for place, count in [*((f"train-{k:06}.tar", each) for k in range(train)), ("val-000000.tar", tests)]:
        content: dict[str, bytes] = {}
        for _ in range(count):
            content |= sample(number, number % classes, width, height)
            number += 1
        shard(root / place, content)


def with_member(path: Path, member: tarfile.TarInfo, data: bytes = b"") -> None:
    """A shard with one good sample and one member of any kind."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in sample(0, 0).items():
            good = tarfile.TarInfo(name)
            good.size = len(content)
            archive.addfile(good, io.BytesIO(content))
        archive.addfile(member, io.BytesIO(data))
    path.write_bytes(out.getvalue())
