"""What a written file is held against the student on: the test images that can be read."""

from __future__ import annotations

from pathlib import Path

import torch
from support.picture_sets import pictures
from torch import Tensor

from engine.data import load_images
from engine.preprocessing import Preprocessing
from engine.preset import DatasetPart
from engine.shipping.proof import proven


def colours(images: Tensor) -> Tensor:
    """[B, 3, h, h] -> [B, 2]: a network of two classes, as far as a proof can tell."""
    return images.mean((2, 3))[:, :2]


def test_images_that_cannot_be_read_do_not_count(tmp_path: Path) -> None:
    pictures(tmp_path, {"train": 4, "test": 3})
    (tmp_path / "test" / "class-1" / "001.jpg").write_bytes(b"broken")
    part = DatasetPart(name="imagefolder", path=str(tmp_path), size=32)
    images = load_images(part, tmp_path, torch.device("cpu"), workers=0)
    prepared = Preprocessing.of(images.facts, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    proof = proven(colours, colours, images.test, prepared)
    assert proof.images == 5
    assert proof.same_class == 1.0
    assert proof.to_json()["images"] == 5
