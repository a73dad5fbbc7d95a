"""From a data set's name to its splits on a device."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import torch

from engine.catalog import DATASETS
from engine.data.augment import ResizedCrop
from engine.data.decoders import Decoders, chosen_workers
from engine.data.file_split import FileSplit
from engine.data.images import Images, published_statistics, split_images, split_numbers
from engine.data.troubles import Troubles
from engine.errors import UserError
from engine.fetching import Tell, fetch
from engine.image_folders import read_own, sized
from engine.listing import Listing, PictureFolder
from engine.preset import DatasetPart
from engine.text import one_line

# A reader's module of images that are held in memory offers read(data_root) -> ((pixels, labels) to train, (pixels, labels) to
# test), and names(data_root) where the classes' names stand in the publisher's files. That of pictures in files offers
# read(data_root) -> PictureFolder. A module that has a way of its own to unpack offers fetch(data_root, tell) -> the folder.
# Each is imported when it is asked for: torchvision takes two seconds.
READERS = {
    "digits": "digits",
    "fashion-mnist": "fashion_mnist",
    "mnist": "mnist",
    "cifar-10": "cifar10",
    "cifar-100": "cifar100",
    "stl-10": "stl10",
    "tiny-imagenet": "tiny_imagenet",
    "stanford-dogs": "stanford_dogs",
    "cub-200": "cub200",
    "mit-67": "mit67",
    "imagenet": "imagenet",
}


def load_images(part: DatasetPart, data_root: Path, device: torch.device, workers: int | None = None) -> Images:
    """The data set of a preset, split by its seeds. UserError where its files are missing or broken.

    `workers` processes decode pictures that lie in files; None: as many as suit the machine.
    """
    images = (
        _from_files(part, data_root, device, workers) if DATASETS[part.name].from_files else _resident(part, data_root, device)
    )
    if part.train_images is not None and len(images.train) < part.train_images:
        raise UserError(
            f"dataset.train_images is {part.train_images}, but {part.name} has {len(images.train)} training images left "
            "when the validation images are taken out; ask for that many or fewer"
        )
    return images


def read_pictures(part: DatasetPart, data_root: Path) -> PictureFolder:
    """Which pictures a data set has that is published as such; none of them is read. UserError where they are missing."""
    if part.path is not None:
        return read_own(part)
    reader = _reader(part.name)
    found: PictureFolder = reader.read(data_root) if DATASETS[part.name].from_files else reader.pictures(data_root)
    return found


def class_names(part: DatasetPart, data_root: Path) -> tuple[str, ...]:
    """The names that stand in the publisher's files. UserError where those are missing."""
    if DATASETS[part.name].from_files:
        return tuple(one_line(name, 100) for name in read_pictures(part, data_root).classes)
    found: tuple[str, ...] = _reader(part.name).names(data_root)
    return found


def fetch_files(name: str, data_root: Path, tell: Tell) -> Path:
    """Downloads (or unpacks) a data set that is not embedded; the folder where it lies. UserError where that cannot be done."""
    reader = _reader(name)
    own = getattr(reader, "fetch", None)
    folder: Path = own(data_root, tell) if own else fetch(DATASETS[name], data_root, tell)
    return folder


def _resident(part: DatasetPart, data_root: Path, device: torch.device) -> Images:
    reader, facts = _reader(part.name), DATASETS[part.name]
    train, test = reader.read(data_root)
    if names := getattr(reader, "names", None):
        facts = replace(facts, classes=names(data_root))
    return split_images(
        facts,
        train,
        test,
        validation_fraction=part.validation_fraction,
        train_images=part.train_images,
        split_seed=part.split_seed,
        device=device,
    )


def _from_files(part: DatasetPart, data_root: Path, device: torch.device, workers: int | None) -> Images:
    found = read_pictures(part, data_root)
    facts = replace(
        sized(part),
        classes=tuple(one_line(name, 100) for name in found.classes),
        train_images=len(found.train),
        test_images=len(found.test),
    )
    statistics = published_statistics(facts, device)
    troubles = Troubles()
    decoders = Decoders(chosen_workers(workers), troubles.say)
    if found.said:
        troubles.say(found.said, "info")

    def split(listing: Listing) -> FileSplit:
        by_shards = part.shuffle == "shards"
        return FileSplit.of(
            found.root, listing, statistics, facts.size, decoders, troubles, by_shards=by_shards, resize=facts.resize
        )

    held, kept = split_numbers(len(found.train), part.validation_fraction, part.train_images, part.split_seed)
    if found.validation is not None:
        validation = found.validation
        train = found.train
        if part.train_images is not None:
            train = train.chosen(torch.cat([held, kept])[: part.train_images].tolist())
    else:
        validation, train = found.train.chosen(held.tolist()), found.train.chosen(kept.tolist())
    return Images(
        facts=facts,
        train=split(train),
        validation=split(validation),
        test=split(found.test),
        augmentation=ResizedCrop(facts.flip),
        troubles=troubles,
        decoders=decoders,
    )


def _reader(name: str) -> ModuleType:
    return importlib.import_module(f"engine.data.{READERS[name]}")
