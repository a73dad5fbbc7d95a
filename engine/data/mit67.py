"""MIT indoor scenes as published: the folder Images with a folder a class, and the lists of the two splits."""

from __future__ import annotations

from pathlib import Path

from engine.catalog import DATASETS
from engine.data.lists import inside, lines_of, spaced
from engine.data_files import files_of
from engine.errors import UserError
from engine.listing import Listing, PictureFolder
from engine.text import one_line


def read(data_root: Path) -> PictureFolder:
    """5,360 pictures to train on and 1,340 to test on, of 15,620; UserError where the files are missing."""
    folder = files_of(DATASETS["mit-67"], data_root).folder
    files = {name: _files(folder, name) for name in ("TrainImages.txt", "TestImages.txt")}
    classes = tuple(sorted({file.partition("/")[0] for file in files["TrainImages.txt"]}))
    numbers = {name: number for number, name in enumerate(classes)}
    parts = []
    for name, paths in files.items():
        labels = [numbers.get(path.partition("/")[0]) for path in paths]
        if None in labels:
            wrong = one_line(paths[labels.index(None)], 200)
            raise UserError(f"{folder / name}: {wrong} is of a class of which there is no picture to train on; fetch it again")
        parts.append(Listing(tuple(paths), tuple(label for label in labels if label is not None)))
    return PictureFolder(folder / "Images", tuple(spaced(name) for name in classes), parts[0], parts[1], None, "")


def _files(folder: Path, name: str) -> list[str]:
    path = folder / name
    found = [inside(line, folder / "Images", path, number) for number, line in enumerate(lines_of(path), start=1)]
    if not found:
        raise UserError(f"{path} lists no picture; fetch it again")
    return found
