"""CUB-200-2011 as published: the folder images, and the lists that number pictures, classes and splits."""

from __future__ import annotations

from pathlib import Path

from engine.catalog import DATASETS
from engine.data.lists import inside, numbered, pairs_of, spaced
from engine.data_files import files_of
from engine.errors import UserError
from engine.listing import Listing, PictureFolder
from engine.text import one_line


def read(data_root: Path) -> PictureFolder:
    """5,994 pictures to train on and 5,794 to test on; the publisher's split. UserError where the files are missing or broken."""
    folder = files_of(DATASETS["cub-200"], data_root).folder / "CUB_200_2011"
    images = folder / "images.txt"
    paths, labels, training = (
        pairs_of(folder / name) for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt")
    )
    # `17 017.Cardinal` -> class 16, Cardinal
    names = {
        _number(key, folder / "classes.txt") - 1: spaced(name.partition(".")[2])
        for key, name in pairs_of(folder / "classes.txt").items()
    }
    classes = numbered(names, folder / "classes.txt")
    parts: dict[str, tuple[list[str], list[int]]] = {"1": ([], []), "0": ([], [])}
    for number, (key, path) in enumerate(paths.items(), start=1):
        if key not in labels or training.get(key) not in parts:
            raise UserError(f"{images}:{number}: the picture {one_line(key, 40)} has no class or no split in the lists beside it")
        label = _number(labels[key], folder / "image_class_labels.txt") - 1
        if label not in names:
            raise UserError(f"{folder / 'image_class_labels.txt'}: there is no class {label + 1}; fetch it again")
        own = parts[training[key]]
        own[0].append(inside(path, folder / "images", images, number))
        own[1].append(label)
    train, test = (Listing(tuple(files), tuple(numbers)) for files, numbers in parts.values())
    return PictureFolder(folder / "images", classes, train, test, None, "")


def _number(text: str, source: Path) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise UserError(f"{source}: {one_line(text, 40)!r} is not a number; fetch it again")
    return int(text)
