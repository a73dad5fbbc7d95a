"""scikit-learn's digits: 1,797 real handwritten digits, 8x8 pixels in 17 greys, embedded in the library."""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from engine.catalog import DATASETS
from engine.randomness import permutation


def read(data_root: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """1,200 images to train on and 597 to test on, [N, 1, 8, 8] uint8 and [N] int64.

    The publisher gives no split, so this one is ours. `data_root` is not looked at: nothing has to be downloaded.
    """
    bunch = load_digits()
    # 17 greys, 0 to 16, spread over a byte.
    pixels = torch.from_numpy(bunch.images).mul(15).to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(bunch.target).to(torch.int64)
    order = permutation(len(labels), 0, "digits test split")
    cut = DATASETS["digits"].train_images
    return (pixels[order[:cut]], labels[order[:cut]]), (pixels[order[cut:]], labels[order[cut:]])
