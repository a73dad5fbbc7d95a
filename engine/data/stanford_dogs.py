"""Stanford Dogs as published: the folder Images, and the lists of the two splits as MATLAB files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from engine.catalog import DATASETS
from engine.data.lists import inside, numbered, spaced
from engine.data_files import files_of
from engine.errors import UserError
from engine.listing import Listing, PictureFolder
from engine.text import one_line


def read(data_root: Path) -> PictureFolder:
    """12,000 pictures to train on and 8,580 to test on; UserError where files are missing or broken."""
    folder = files_of(DATASETS["stanford-dogs"], data_root).folder
    names: dict[int, str] = {}
    train = _listing(folder, "train_list.mat", names)
    test = _listing(folder, "test_list.mat", names)
    classes = numbered(names, folder / "train_list.mat")
    return PictureFolder(folder / "Images", classes, train, test, None, "")


def _listing(folder: Path, name: str, names: dict[int, str]) -> Listing:
    """Of file_list and labels (from 1); each class has the name of its pictures' folder, after the WordNet number."""
    path = folder / name
    try:
        content: dict[str, Any] = scipy.io.loadmat(path, variable_names=["file_list", "labels"])
        files = [str(np.asarray(cell).ravel()[0]) for cell in content["file_list"].ravel()]
        labels = [int(label) - 1 for label in content["labels"].ravel()]
    except Exception as error:  # scipy raises whatever a damaged file makes it stumble over
        raise UserError(f"{path} cannot be read: {one_line(str(error), 200)}; remove it and fetch it again") from error
    if len(files) != len(labels) or not files:
        raise UserError(f"{path} lists {len(files):,} pictures and {len(labels):,} labels; remove it and fetch it again")
    for number, (file, label) in enumerate(zip(files, labels, strict=True), start=1):
        inside(file, folder / "Images", path, number)
        names.setdefault(label, spaced(file.partition("/")[0].partition("-")[2]))
    return Listing(tuple(files), tuple(labels))
