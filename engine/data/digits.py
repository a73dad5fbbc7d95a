"""scikit-learn's digits: 1,797 real handwritten digits, 8x8 pixels in 17 greys, embedded in the library."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.catalog import DATASETS
from engine.randomness import permutation

FILE = "datasets/data/digits.csv.gz"  # in scikit-learn


def read(data_root: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """1,200 images to train on and 597 to test on, [N, 1, 8, 8] uint8 and [N] int64.

    The publisher gives no split, so this one is ours. `data_root` is not looked at: nothing has to be downloaded.
    """
    rows = _rows()
    # 17 greys, 0 to 16, spread over a byte.
    pixels = rows[:, :-1].mul(15).to(torch.uint8).view(-1, 1, 8, 8)
    labels = rows[:, -1].to(torch.int64)
    order = permutation(len(labels), 0, "digits test split")
    cut = DATASETS["digits"].train_images
    return (pixels[order[:cut]], labels[order[:cut]]), (pixels[order[cut:]], labels[order[cut:]])


def _rows() -> Tensor:
    """[1797, 65] float64: 64 greys and the digit. From the library's file: to import the library takes a second."""
    found = importlib.util.find_spec("sklearn")
    for folder in (found and found.submodule_search_locations) or ():
        if (path := Path(folder, FILE)).exists():
            return torch.from_numpy(np.loadtxt(path, delimiter=","))
    # It lies elsewhere in this release.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return torch.from_numpy(np.column_stack([bunch.data, bunch.target]))
