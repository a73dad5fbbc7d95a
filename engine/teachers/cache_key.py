"""Keys of the teacher cache: 16 hexadecimal digits for all that decides a teacher's outputs on the training images."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

import torch
from torch import Tensor

from engine.data import AnySplit
from engine.data.augment import VIEWS_SEED, Augmentation, ResizedCrop
from engine.models import Classifier

FORMAT = 1  # raised when the same key would no longer stand for the same rows


def images_digest(split: AnySplit, augmentation: Augmentation | ResizedCrop | None) -> str:
    """Of the training images as networks see them: pixels, labels, normalisation, and how views are made of them."""
    found = hashlib.sha256()
    made = None if augmentation is None else {"seed": VIEWS_SEED, **asdict(augmentation)}
    found.update(json.dumps([FORMAT, made], sort_keys=True).encode())
    for tensor in split.fingerprint():
        _add(found, tensor)
    return found.hexdigest()


def outputs_key(arch: str, model: Classifier, bf16: bool, images: str) -> str:
    """Of a teacher's outputs: its weights by their content, the precision of its passes, and `images_digest`.

    The number of views is not in it: more of them are added to the same folder.
    """
    found = hashlib.sha256(json.dumps([FORMAT, arch, bf16, images]).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if not name.endswith("num_batches_tracked"):  # foreign checkpoints may lack it, and no output depends on it
            found.update(name.encode() + b"\0")
            _add(found, tensor)
    return found.hexdigest()[:16]


def _add(found: hashlib._Hash, tensor: Tensor) -> None:
    found.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
    found.update(tensor.detach().to("cpu").contiguous().view(-1).view(torch.uint8).numpy().data)
