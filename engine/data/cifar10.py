"""CIFAR-10 by torchvision's class, which checks the files before it reads them."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from torchvision.datasets import CIFAR10

from engine.catalog import DATASETS
from engine.data.cifar import read_cifar


def read(data_root: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """50,000 images to train on and 10,000 to test on, [N, 3, 32, 32] uint8 and [N] int64. UserError where they are not there."""
    return read_cifar(DATASETS["cifar-10"], CIFAR10, data_root)
