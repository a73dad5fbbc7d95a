"""Small data sets in Fashion-MNIST's published format."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import FashionMNIST

from engine import catalog
from engine.data import fashion_mnist

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


def forget_system_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without Debian's package."""
    facts = dataclasses.replace(FACTS, folders=tuple(folder for folder in FACTS.folders if not folder.startswith("/")))
    monkeypatch.setitem(catalog.DATASETS, FACTS.name, facts)
    monkeypatch.setattr(fashion_mnist, "FACTS", facts)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def published(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, np.ndarray]]:
    """Makes `folder` the publisher's site."""
    content = write(folder, packed=True)
    sums = [(f"{name}.gz", hashlib.md5((folder / f"{name}.gz").read_bytes()).hexdigest()) for name in content]
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(FashionMNIST, "resources", sums)
        yield content
        server.shutdown()
