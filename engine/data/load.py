"""From a data set's name to its splits on a device."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import torch

from engine.catalog import DATASETS
from engine.data.images import Images, split_images
from engine.errors import UserError
from engine.preset import DatasetPart

# A reader's module offers AUGMENTATION and read(data_root) -> ((pixels, labels) to train, (pixels, labels) to test);
# that of a data set which is not embedded, fetch(data_root) -> the folder too.
# Each is imported when it is asked for: torchvision and scikit-learn take a second or two, and no run needs both.
READERS = {"digits": "digits", "fashion-mnist": "fashion_mnist"}


def load_images(part: DatasetPart, data_root: Path, device: torch.device) -> Images:
    """The data set of a preset, split by its seeds. UserError where its files are missing or broken."""
    reader = _reader(part.name)
    train, test = reader.read(data_root)
    images = split_images(
        DATASETS[part.name],
        reader.AUGMENTATION,
        train,
        test,
        validation_fraction=part.validation_fraction,
        train_images=part.train_images,
        split_seed=part.split_seed,
        device=device,
    )
    if part.train_images is not None and len(images.train) < part.train_images:
        raise UserError(
            f"dataset.train_images is {part.train_images}, but {part.name} has {len(images.train)} training images left "
            "when the validation images are taken out; ask for that many or fewer"
        )
    return images


def fetch_files(name: str, data_root: Path) -> Path:
    """Downloads a data set that is not embedded; the folder where it lies. UserError where that cannot be done."""
    folder: Path = _reader(name).fetch(data_root)
    return folder


def _reader(name: str) -> ModuleType:
    return importlib.import_module(f"engine.data.{READERS[name]}")
