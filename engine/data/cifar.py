"""What the two CIFAR have in common: from torchvision's class to tensors."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import CIFAR10

from engine.data_files import files_of
from engine.dataset_facts import DatasetFacts
from engine.errors import UserError
from engine.text import one_line


def read_cifar(facts: DatasetFacts, kind: type[CIFAR10], data_root: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training and test images, [N, 3, 32, 32] uint8 and [N] int64. UserError where the files are missing or broken."""
    folder = files_of(facts, data_root).folder
    _check(folder / kind.base_folder, kind)
    parts = []
    try:
        for train in (True, False):
            read = kind(str(folder), train=train)
            pixels = torch.from_numpy(read.data).permute(0, 3, 1, 2).contiguous()
            parts.append((pixels, torch.tensor(read.targets, dtype=torch.int64)))
        names = tuple(read.classes)
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        why = one_line(str(error), 200)
        raise UserError(
            f"{folder / kind.base_folder} cannot be read as {facts.name}: {why}; remove it and fetch it again"
        ) from error
    if names != facts.classes:
        raise UserError(f"{folder / kind.base_folder} names other classes than {facts.name} has; remove it and fetch it again")
    return parts[0], parts[1]


def _check(folder: Path, kind: type[CIFAR10]) -> None:
    """Pickles can run code: no file is read whose checksum is not the publisher's. torchvision checks too, but names none."""
    from torchvision.datasets.utils import check_integrity

    meta = (kind.meta["filename"], kind.meta["md5"])
    for name, md5 in (*kind.train_list, *kind.test_list, meta):
        if not check_integrity(str(folder / name), md5):
            raise UserError(f"{folder / name} is not the publisher's file: its MD5 is not {md5}; remove it and fetch it again")
