"""Fashion-MNIST by torchvision's class, from its own folder layout, from the publisher's .gz files or from Debian's package."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from torchvision.datasets import FashionMNIST

from engine.catalog import DATASETS
from engine.data.idx_set import read_idx_set


def read(data_root: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """60,000 images to train on and 10,000 to test on, [N, 1, 28, 28] uint8 and [N] int64.

    UserError where the files are missing or broken.
    """
    return read_idx_set(DATASETS["fashion-mnist"], FashionMNIST, data_root)
