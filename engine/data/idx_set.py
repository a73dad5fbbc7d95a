"""MNIST and its kin by torchvision's classes, from their own folder layout, from the publisher's .gz files or from a package."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import zlib
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import MNIST

from engine.data.idx import REMEDY, idx_sizes
from engine.data_files import Found, files_of
from engine.dataset_facts import DatasetFacts
from engine.errors import UserError
from engine.paths import cache_dir, private_folder, written_aside
from engine.text import one_line

_LARGEST = 64 << 20  # bytes of one file unpacked; the real ones have at most 47 MB


def read_idx_set(facts: DatasetFacts, kind: type[MNIST], data_root: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training and test images, [N, 1, 28, 28] uint8 and [N] int64. UserError where the files are missing or broken."""
    found = files_of(facts, data_root)
    root = _root(facts, kind, found)
    return _part(facts, kind, root, found, "train"), _part(facts, kind, root, found, "t10k")


def _part(facts: DatasetFacts, kind: type[MNIST], root: Path, found: Found, part: str) -> tuple[Tensor, Tensor]:
    """The images [N, 1, 28, 28] and labels [N] of "train" or "t10k"."""
    images_name, labels_name = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
    raw = root / kind.__name__ / "raw"
    count, *size = _sizes(raw, found, images_name, 3)
    (labels_count,) = _sizes(raw, found, labels_name, 1)
    images_file, labels_file = found.path(images_name), found.path(labels_name)
    if size != [facts.size, facts.size]:
        raise UserError(f"{images_file} holds images of {size[0]}x{size[1]} pixels, not {facts.size}x{facts.size}; {REMEDY}")
    if count != labels_count:
        raise UserError(f"{images_file} holds {count:,} images, but {labels_file} {labels_count:,} labels; get both again")
    if count == 0:
        raise UserError(f"{images_file} holds no images; {REMEDY}")
    try:
        read = kind(str(root), train=part == "train")
    except (OSError, RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise UserError(f"{found.folder} cannot be read as {facts.name}: {one_line(str(error), 300)}; {REMEDY}") from error
    images, labels = read.data.unsqueeze(1), read.targets.to(torch.int64)
    # torchvision prefers a folder `processed` of older versions where there is one: its content was not checked above.
    if images.dtype != torch.uint8 or images.shape != (count, 1, *size) or labels.shape != (count,):
        raise UserError(f"{raw.parent / 'processed'} disagrees with the files in raw beside it; remove it")
    if not 0 <= int(labels.min()) <= int(labels.max()) < len(facts.classes):
        raise UserError(f"{labels_file} holds labels above {len(facts.classes) - 1}; {REMEDY}")
    return images, labels


def _sizes(raw: Path, found: Found, name: str, dimensions: int) -> tuple[int, ...]:
    path = raw / name
    try:
        return idx_sizes(path, dimensions, found.path(name))
    except UserError:
        if path != found.path(name):
            path.unlink()  # our unpacked copy; the next try makes it anew
        raise


def _root(facts: DatasetFacts, kind: type[MNIST], found: Found) -> Path:
    """A root in whose folder <class>/raw the files lie unpacked, as torchvision's class wants them.

    What lies elsewhere or packed is copied to our cache, since its own folder may be read-only.
    """
    if not found.ending and found.folder.parts[-2:] == (kind.__name__, "raw"):
        return found.folder.parent.parent
    root = cache_dir() / facts.name / hashlib.sha256(os.fsencode(found.folder.absolute())).hexdigest()[:16]
    for name in facts.files:
        _copy(found.path(name), root / kind.__name__ / "raw" / name)
    return root


def _copy(source: Path, target: Path) -> None:
    """Unpacks where that is needed. The copy bears the source's time, so that a change of either is seen."""
    try:
        made = source.stat().st_mtime_ns
        if target.is_file() and target.stat().st_mtime_ns == made:
            return
        private_folder(target.parent)
        with _opened(source) as packed, written_aside(target) as file:
            shutil.copyfileobj(_Bounded(packed, source), file)
        os.utime(target, ns=(made, made))
    except (OSError, EOFError, zlib.error) as error:
        why = one_line(str(error), 300)
        raise UserError(f"{source} cannot be unpacked to {target.parent}: {why}; if it is damaged, {REMEDY}") from error


def _opened(source: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(source) if source.suffix == ".gz" else source.open("rb")


class _Bounded:
    """A reader that refuses to unpack more than a real file holds."""

    def __init__(self, source: gzip.GzipFile | io.BufferedReader, path: Path) -> None:
        self.source, self.path, self.left = source, path, _LARGEST

    def read(self, size: int = -1) -> bytes:
        block = self.source.read(size if size >= 0 else 1 << 20)
        self.left -= len(block)
        if self.left < 0:
            raise UserError(f"{self.path} unpacks to more than {_LARGEST >> 20} MB; it is not the publisher's file")
        return block
