"""Small data sets in Fashion-MNIST's published format."""

from __future__ import annotations

import dataclasses
import gzip
import http.server
from pathlib import Path

import numpy as np
import pytest

from engine import catalog

FACTS = catalog.DATASETS["fashion-mnist"]


def idx(array: np.ndarray) -> bytes:
    """An array of bytes as an IDX file."""
    header = bytes((0, 0, 8, array.ndim)) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + array.astype(np.uint8).tobytes()


def arrays(train: int = 40, test: int = 10, size: int = 28) -> dict[str, np.ndarray]:
    """Noise for images, by file name."""
    rng = np.random.default_rng(0)
    return {
        "train-images-idx3-ubyte": rng.integers(0, 256, (train, size, size)),
        "train-labels-idx1-ubyte": np.arange(train) % 10,
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (test, size, size)),
        "t10k-labels-idx1-ubyte": np.arange(test) % 10,
    }


def write(folder: Path, packed: bool, content: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """The four files, as published (.gz) or unpacked; returns what is in them."""
    content = arrays() if content is None else content
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in content.items():
        data = idx(array)
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(data) if packed else data)
    return content


def archives() -> dict[str, bytes]:
    """What the publisher gives, by file name."""
    return {f"{name}.gz": gzip.compress(idx(array)) for name, array in arrays().items()}


def forget_system_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without Debian's package."""
    facts = dataclasses.replace(FACTS, folders=FACTS.own_folders)
    monkeypatch.setitem(catalog.DATASETS, FACTS.name, facts)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass
