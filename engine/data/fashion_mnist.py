"""Fashion-MNIST by torchvision's class, from its own folder layout, from the publisher's .gz files or from Debian's package."""

from __future__ import annotations

import http.client
import tempfile
import zlib
from pathlib import Path

from torch import Tensor
from torchvision.datasets import FashionMNIST

from engine.catalog import DATASETS
from engine.data.idx_set import read_idx_set
from engine.data_files import remedy
from engine.errors import UserError
from engine.fetching import Progress, Tell
from engine.text import one_line

FACTS = DATASETS["fashion-mnist"]


def read(data_root: Path) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """60,000 images to train on and 10,000 to test on, [N, 1, 28, 28] uint8 and [N] int64.

    UserError where the files are missing or broken.
    """
    return read_idx_set(FACTS, FashionMNIST, data_root)


def fetch(data_root: Path, tell: Tell) -> Path:
    """Downloads the four files into `data_root`, checksums verified by torchvision, and says where they lie."""
    raw = data_root / "FashionMNIST" / "raw"
    tell(Progress("downloading", FACTS.name, 0, None))
    try:
        raw.mkdir(parents=True, exist_ok=True)
        # Aside first: what was interrupted must not look like a data set.
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=data_root) as aside:
            FashionMNIST(aside, download=True)
            for name in FACTS.files:
                Path(aside, "FashionMNIST", "raw", name).replace(raw / name)
    except (OSError, RuntimeError, EOFError, zlib.error, http.client.HTTPException) as error:
        why = one_line(str(error), 300)
        raise UserError(f"fashion-mnist could not be downloaded: {why}. {remedy(FACTS, data_root)}") from error
    return raw
