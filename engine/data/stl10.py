"""The labelled part of STL-10 by torchvision's class."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import STL10
from torchvision.datasets.utils import check_integrity

from engine.catalog import DATASETS
from engine.data_files import files_of
from engine.errors import UserError
from engine.text import one_line


class Labelled(STL10):  # type: ignore[misc]  # torchvision has no types
    """Without the 2.7 GB of unlabelled images, which torchvision wants to check even where they are not read."""

    train_list = STL10.train_list[:2]


def read(data_root: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """5,000 images to train on and 8,000 to test on, [N, 3, 96, 96] uint8 and [N] int64. UserError where they are not there."""
    folder = files_of(DATASETS["stl-10"], data_root).folder
    for name, md5 in (*Labelled.train_list, *Labelled.test_list):
        path = folder / Labelled.base_folder / name
        if not check_integrity(str(path), md5):
            raise UserError(f"{path} is not the publisher's file: its MD5 is not {md5}; remove it and fetch it again")
    try:
        train, test = (Labelled(str(folder), split=split) for split in ("train", "test"))
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{folder} cannot be read as STL-10: {one_line(str(error), 200)}; remove it and fetch it again"
        ) from error
    return _part(train), _part(test)


def _part(read: STL10) -> tuple[Tensor, Tensor]:
    # torchvision gives each image as channels, height, width.
    return torch.from_numpy(read.data.copy()), torch.from_numpy(read.labels).to(torch.int64)
