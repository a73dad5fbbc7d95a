"""Tiny-ImageNet-200 as published, decoded once into arrays that are kept in our cache."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.catalog import DATASETS
from engine.control_group import usable_cores
from engine.data.lists import inside, lines_of
from engine.data_files import files_of
from engine.errors import AwayError, UnreadableError, UserError
from engine.image_folders import Outside, pictures_below
from engine.listing import Listing, PictureFolder
from engine.paths import cache_dir, private_folder, written_aside
from engine.pictures import BrokenPictureError, decode_patiently
from engine.text import one_line

NAME = "tiny-imagenet"
FORMAT = 1  # raised when the same files would be decoded to other arrays


def read(data_root: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """100,000 images to train on, and the 10,000 validation images to test on, [N, 3, 64, 64] uint8 and [N] int64.

    UserError where files are missing or broken. Pixels are mapped from the cache where they were decoded before.
    """
    folder = _folder(data_root)
    wnids = lines_of(folder / "wnids.txt")
    train, test = _train(folder, wnids), _test(folder, wnids)
    return _decoded(folder, train), _decoded(folder, test)


def names(data_root: Path) -> tuple[str, ...]:
    """The first of each class's names in words.txt, in the order of wnids.txt."""
    folder = _folder(data_root)
    words = dict(line.partition("\t")[::2] for line in lines_of(folder / "words.txt"))
    wnids = lines_of(folder / "wnids.txt")
    first = [one_line(words.get(wnid, wnid).partition(",")[0], 100) for wnid in wnids]
    return tuple(name if first.count(name) == 1 else f"{name} ({wnid})" for name, wnid in zip(first, wnids, strict=True))


def pictures(data_root: Path) -> PictureFolder:
    """Its files, for who looks at each. UserError where they are missing."""
    folder = _folder(data_root)
    wnids = lines_of(folder / "wnids.txt")
    return PictureFolder(folder, names(data_root), _train(folder, wnids), _test(folder, wnids), None, "")


def _folder(data_root: Path) -> Path:
    return files_of(DATASETS[NAME], data_root).folder / "tiny-imagenet-200"


def _train(folder: Path, wnids: list[str]) -> Listing:
    """From train/<wnid>/images."""
    paths: list[str] = []
    labels: list[int] = []
    for label, wnid in enumerate(wnids):
        own = pictures_below(folder / "train" / inside(wnid, folder, folder / "wnids.txt", label + 1), folder, Outside())
        if not own:
            raise UserError(f"{folder / 'train' / wnid} holds no picture; fetch {NAME} again")
        paths += own
        labels += [label] * len(own)
    return Listing(tuple(paths), tuple(labels))


def _test(folder: Path, wnids: list[str]) -> Listing:
    """From val/images by val_annotations.txt: a line `FILE<tab>WNID<tab>box`."""
    source = folder / "val" / "val_annotations.txt"
    numbers = {wnid: number for number, wnid in enumerate(wnids)}
    paths, labels = [], []
    for number, line in enumerate(lines_of(source), start=1):
        file, wnid, *_ = [*line.split("\t"), "", ""]
        if wnid not in numbers:
            raise UserError(f"{source}:{number}: there is no class {one_line(wnid, 40)!r} in wnids.txt; fetch {NAME} again")
        paths.append(inside(f"val/images/{file}", folder, source, number))
        labels.append(numbers[wnid])
    return Listing(tuple(paths), tuple(labels))


def _decoded(folder: Path, listing: Listing) -> tuple[Tensor, Tensor]:
    """From the cache where this very listing was decoded before."""
    key = hashlib.sha256(repr((FORMAT, str(folder.absolute()), listing.paths)).encode("utf-8", "surrogateescape"))
    for path in listing.paths:
        try:
            found = os.stat(folder / path)  # noqa: PTH116  110,000 of them
        except OSError as error:
            raise UserError(f"{folder / path} cannot be read: {error.strerror}; fetch {NAME} again") from error
        key.update(f"{found.st_size} {found.st_mtime_ns}".encode())
    kept = cache_dir() / NAME / f"{key.hexdigest()[:16]}.npy"
    shape = (len(listing), 3, DATASETS[NAME].size, DATASETS[NAME].size)
    labels = torch.tensor(listing.labels, dtype=torch.int64)
    if (pixels := _mapped(kept, shape)) is None:
        whole = _decode(folder, listing, shape)
        try:
            private_folder(kept.parent)
            with written_aside(kept) as file:
                np.save(file, whole)
        except OSError:
            pass  # no room: it is decoded again next time
        pixels = _mapped(kept, shape)
        pixels = whole if pixels is None else pixels
    return torch.from_numpy(pixels), labels


def _mapped(kept: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Copy on write: torch takes no array that may not be written to."""
    try:
        found: np.ndarray = np.load(kept, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == shape and found.dtype == np.uint8 else None


def _decode(folder: Path, listing: Listing, shape: tuple[int, ...]) -> np.ndarray:
    pixels = np.empty(shape, np.uint8)

    def one(number: int) -> None:
        path = str(folder / listing.paths[number])
        try:
            picture = np.asarray(decode_patiently(path))
        except BrokenPictureError as error:
            raise UserError(f"{path} cannot be read: {error}; fetch {NAME} again") from error
        except AwayError as error:
            raise UnreadableError(f"{error.said}; nothing was changed: try again") from error
        if picture.shape != (*shape[2:], 3):
            raise UserError(
                f"{path} has {picture.shape[1]}x{picture.shape[0]} pixels, not {shape[2]}x{shape[3]}; fetch {NAME} again"
            )
        pixels[number] = picture.transpose(2, 0, 1)

    # Pillow decodes outside of Python's lock.
    with ThreadPoolExecutor(min(usable_cores(), 8)) as pool:
        for _ in pool.map(one, range(len(listing)), chunksize=64):
            pass
    return pixels
