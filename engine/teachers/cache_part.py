"""One file of the teacher cache: a row of bytes for each image of one view, written in chunks, with a SHA-256 for each chunk.

view-0000-features.partial   being written; .journal beside it has a checksum for each chunk that is done
view-0000-features.rows      whole; .json beside it, written last, says how its rows are read and what its chunks' checksums are

Whoever is killed leaves a partial file: who goes on keeps the chunks that the journal vouches for.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.control_group import usable_cores
from engine.file_systems import on_network
from engine.paths import sync_folder, write_whole
from engine.untrusted import object_in, open_regular, read_regular, readable

CHUNK = 256  # images of a chunk: also of a teacher's pass, so that a build that is taken up again computes the same
MOST_THREADS = 4  # that read and check a file: disks are no faster for more
SYNC_EVERY = 64 << 20  # bytes between two syncs
SIZES = {"float32": 4, "float16": 2, "bfloat16": 2}  # bytes of a number
_MOST_MANIFEST = 64 << 20  # bytes
_REMEDY = "try again, or name another folder with MMKD_TEACHER_CACHE"

Bytes = npt.NDArray[np.uint8]


class DamagedError(Exception):
    """A file that is not what its manifest says."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a file are read."""

    kind: str  # "logits" or "features"
    shape: tuple[int, ...]  # of an image's row
    dtype: str  # one of SIZES

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return SIZES[self.dtype] * math.prod(self.shape)


class PartFile:
    """Where the rows of one view are, or will be."""

    def __init__(self, folder: Path, view: int, kind: str, shape: tuple[int, ...], images: int) -> None:
        stem = f"view-{view:04d}-{kind}"
        self.kind, self.shape, self.images = kind, shape, images
        self.rows, self.manifest = folder / f"{stem}.rows", folder / f"{stem}.json"
        self.partial, self.journal = folder / f"{stem}.partial", folder / f"{stem}.journal"

    @property
    def chunks(self) -> int:
        return -(-self.images // CHUNK)

    def known(self) -> tuple[Layout, list[str]] | None:
        """What the manifest says, if there is one of these images; whether it is true, only `read` finds out.

        UnreadableError where it cannot be read now: what was computed would be computed again.
        """
        try:
            with readable(self.manifest, _REMEDY):
                found = object_in(read_regular(self.manifest, _MOST_MANIFEST))
            with readable(self.rows, _REMEDY):
                there = stat.S_ISREG(self.rows.stat().st_mode)
        except OSError:
            return None
        if found is None or not there:
            return None
        layout, sums = self._layout(found.get("layout")), found.get("sha256")
        fits = found.get("images") == self.images and found.get("chunk") == CHUNK and isinstance(sums, list)
        return (layout, [str(one) for one in sums]) if fits and layout and isinstance(sums, list) else None

    def begun(self) -> Layout | None:
        """The layout in which a build was begun, if one was. UnreadableError as for `known`."""
        try:
            with readable(self.journal, _REMEDY), os.fdopen(open_regular(self.journal), "rb") as file:
                head = json.loads(file.readline(1 << 16))
            return self._layout(head["layout"]) if head["images"] == self.images and head["chunk"] == CHUNK else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def taken(self) -> int:
        """Bytes that a partial file has on the disk already."""
        try:
            return self.partial.stat().st_blocks * 512
        except OSError:
            return 0

    def read(self, poll: Callable[[], None]) -> tuple[Layout, Bytes]:
        """All rows [images, row], every chunk checked, then mapped: the system keeps in memory what has room there, for all runs.

        DamagedError where the file is not what its manifest says, UnreadableError where it cannot be read now.
        """
        if (known := self.known()) is None:
            raise DamagedError("its manifest is missing, or of other images")
        layout, sums = known
        try:
            with readable(self.rows, _REMEDY), os.fdopen(open_regular(self.rows), "rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != layout.row * self.images or len(sums) != self.chunks:
                    raise DamagedError("its length is not that of its manifest")
                self._check(file.fileno(), layout, sums, poll)
                mapped = np.memmap(file, np.uint8, "r", shape=(self.images, layout.row))
                return layout, mapped.view(np.ndarray)  # a memmap's own indexing takes several times as long
        except OSError as error:
            raise DamagedError(error.strerror or str(error)) from error

    def _check(self, handle: int, layout: Layout, sums: list[str], poll: Callable[[], None]) -> None:
        """On a few threads: hashing lets go of Python's lock."""
        own = threading.local()

        def sum_of(chunk: int) -> str:
            if not hasattr(own, "buffer"):
                own.buffer = np.empty((CHUNK, layout.row), np.uint8)
            block = own.buffer[: min(CHUNK, self.images - chunk * CHUNK)]
            _read_into(handle, block, chunk * CHUNK * layout.row)
            return hashlib.sha256(block.data).hexdigest()

        pool = ThreadPoolExecutor(min(MOST_THREADS, usable_cores()), "mmkd-check")
        try:
            for chunk, (found, expected) in enumerate(zip(pool.map(sum_of, range(self.chunks)), sums, strict=True)):
                poll()
                if found != expected:
                    start = chunk * CHUNK
                    last = min(start + CHUNK, self.images) - 1
                    raise DamagedError(f"the SHA-256 of images {start} to {last} is not the manifest's")
        finally:
            pool.shutdown(cancel_futures=True)

    def set_aside(self) -> Path:
        """Keeps damaged files under another name. OSError where that is not allowed."""
        aside = self.rows.with_name(f"damaged-{time.time_ns()}-{self.rows.name}")
        if self.manifest.exists():
            self.manifest.rename(aside.with_suffix(".json"))
        if self.rows.exists():
            self.rows.rename(aside)
        return aside

    def _layout(self, said: Any) -> Layout | None:
        if not isinstance(said, dict) or said.get("shape") != list(self.shape) or said.get("dtype") not in SIZES:
            return None
        return Layout(self.kind, self.shape, said["dtype"])


class FileWriter:
    """Writes a part's chunks in order; takes up what an earlier writer left. OSError where the disk is full or not ours."""

    def __init__(self, part: PartFile, layout: Layout, poll: Callable[[], None]) -> None:
        self.part, self.layout = part, layout
        if part.rows.exists() and not part.partial.exists():
            part.rows.rename(part.partial)  # whole, but its writer died before the manifest was written
        self._file = open_regular(part.partial, os.O_RDWR | os.O_CREAT)
        try:
            same = part.begun() == layout
            self._sums = self._vouched(poll) if same else []
            head = {"layout": _spelled(layout), "images": part.images, "chunk": CHUNK}
            write_whole(part.journal, "\n".join([json.dumps(head), *self._sums]) + "\n")
            self._journal = open_regular(part.journal, os.O_WRONLY | os.O_APPEND)
            size = layout.row * part.images
            os.ftruncate(self._file, size)
            # The whole room at once: a full disk is found out now, not after an hour. Over a network the C library would read and
            # write a byte of every 4 KB instead.
            if not on_network(part.partial):
                _allocate(self._file, size)
        except BaseException:
            self.close()
            raise
        self._unsynced = 0

    @property
    def done(self) -> int:
        """Chunks that are there."""
        return len(self._sums)

    def write(self, rows: Bytes) -> None:
        """The next chunk, [n, row]."""
        assert rows.shape[1] == self.layout.row
        os.lseek(self._file, self.done * CHUNK * self.layout.row, os.SEEK_SET)
        _write_all(self._file, rows.data.cast("B"))
        self._sums.append(hashlib.sha256(rows.data).hexdigest())
        _write_all(self._journal, memoryview(f"{self._sums[-1]}\n".encode()))
        self._unsynced += rows.nbytes
        if self._unsynced >= SYNC_EVERY:
            os.fsync(self._file)
            self._unsynced = 0

    def finish(self) -> None:
        """All chunks are there: publishes them."""
        assert self.done == self.part.chunks
        os.fsync(self._file)
        self.close()
        self.part.partial.rename(self.part.rows)
        sync_folder(self.part.rows.parent)
        manifest = {"layout": _spelled(self.layout), "images": self.part.images, "chunk": CHUNK, "sha256": self._sums}
        write_whole(self.part.manifest, json.dumps(manifest) + "\n")
        self.part.journal.unlink(missing_ok=True)

    def close(self) -> None:
        """Leaves what is there to who goes on. A second time does nothing."""
        for name in ("_file", "_journal"):
            if (handle := getattr(self, name, -1)) >= 0:
                os.close(handle)
                setattr(self, name, -1)

    def _vouched(self, poll: Callable[[], None]) -> list[str]:
        """Checksums of the chunks, from the first on, that are on the disk as the journal says."""
        with readable(self.part.journal, _REMEDY):
            content = read_regular(self.part.journal, _MOST_MANIFEST)
        said = content.split(b"\n")[1:-1]  # what follows the last line's end was torn off
        sums: list[str] = []
        for start, expected in zip(range(0, self.part.images, CHUNK), said, strict=False):
            poll()
            block = np.empty((min(CHUNK, self.part.images - start), self.layout.row), np.uint8)
            try:
                with readable(self.part.partial, _REMEDY):
                    _read_into(self._file, block, start * self.layout.row)
            except DamagedError:
                break
            found = hashlib.sha256(block.data).hexdigest()
            if found.encode() != expected:
                break
            sums.append(found)
        return sums


class MemoryWriter:
    """As FileWriter, but nothing is written to the disk."""

    def __init__(self, images: int, layout: Layout) -> None:
        self.layout, self.done = layout, 0
        self.rows: Bytes = np.empty((images, layout.row), np.uint8)

    def write(self, rows: Bytes) -> None:
        """The next chunk, [n, row]."""
        self.rows[self.done * CHUNK : self.done * CHUNK + len(rows)] = rows
        self.done += 1

    def finish(self) -> None:
        """All chunks are there."""

    def close(self) -> None:
        """Nothing is held but memory."""


def _spelled(layout: Layout) -> dict[str, Any]:
    return {"shape": list(layout.shape), "dtype": layout.dtype}


def _read_into(handle: int, block: Bytes, offset: int) -> None:
    """Fills `block` from `offset`; where the file stands does not matter."""
    view = block.data.cast("B")
    while view:
        if not (count := os.preadv(handle, [view], offset)):
            raise DamagedError("it ends too early")
        view, offset = view[count:], offset + count


def _write_all(handle: int, view: memoryview) -> None:
    while view:
        view = view[os.write(handle, view) :]


def _allocate(handle: int, size: int) -> None:
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
