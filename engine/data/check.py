"""Reads all of a data set, and says what is in it and what is broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.data.decoders import PIECE, Decoders, chosen_workers
from engine.data.load import load_images, read_pictures
from engine.data_files import files_of, find_archives
from engine.dataset_facts import DATASETS, DatasetFacts
from engine.errors import AwayError, TrainingError, UnreadableError, UserError
from engine.fetching import Progress, Tell, verify
from engine.listing import Listing
from engine.pictures import Job
from engine.preset import DatasetPart

_SIZE = 32  # pixels: what is decoded is only looked at


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found. Broken files come with the reason."""

    name: str
    folder: str
    classes: tuple[str, ...]
    splits: dict[str, tuple[int, ...]]  # images of each class that could be read, by split
    archives: dict[str, str]  # what is said of each archive's checksum
    broken: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def check(part: DatasetPart, data_root: Path, tell: Tell) -> Checked:
    """Reads every file. UserError where the data set is not there, or where its lists of pictures are damaged; UnreadableError
    where the system does not give a picture now.
    """
    facts = DATASETS[part.name]
    archives, wrong = _archives(facts, data_root, tell)
    if facts.from_files or facts.name == "tiny-imagenet":  # published as pictures, too
        found = read_pictures(part, data_root)
        listed = {"train": found.train, "validation": found.validation, "test": found.test}
        listings = {name: listing for name, listing in listed.items() if listing is not None}
        read, broken = _read(found.root, listings, tell)
        there = {name: len(listing) for name, listing in listings.items()}
        counts = {name: _counts(labels, len(found.classes)) for name, labels in read.items()}
        notes = [found.said] if found.said else []
        classes, folder = found.classes, str(found.root)
    else:
        where = files_of(facts, data_root) if facts.files else None
        folder = str(where.folder) if where else facts.origin
        tell(Progress("reading", part.name, 0, None))
        try:
            images = load_images(part, data_root, torch.device("cpu"))
        except UserError as error:
            return Checked(part.name, folder, (), {}, archives, (*wrong, (folder, str(error))), ())
        together = torch.cat([images.train.labels, images.validation.labels])
        classes, broken, notes = images.facts.classes, [], []
        counts = {
            "train": _counts(together.tolist(), len(classes)),
            "test": _counts(images.test.labels.tolist(), len(classes)),
        }
        there = {name: sum(numbers) for name, numbers in counts.items()}
    if facts.train_images:
        for name, expected in (("train", facts.train_images), ("test", facts.test_images)):
            if there[name] != expected:
                notes.append(f"{there[name]:,} images in {name}, where the publisher has {expected:,}")
    return Checked(part.name, folder, classes, counts, archives, (*wrong, *broken), tuple(notes))


def _archives(facts: DatasetFacts, data_root: Path, tell: Tell) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """What is said of each archive that is still there, and those that are not the publisher's."""
    said: dict[str, str] = {}
    wrong = []
    complete = find_archives(facts, data_root)
    for archive in facts.archives:
        folders = [complete] if complete else [data_root / place for place in facts.own_folders]
        path = next((folder / archive.name for folder in folders if (folder / archive.name).is_file()), None)
        if path is None:
            continue
        if archive.md5 is None:
            said[archive.name] = "no checksum published"
            continue
        try:
            verify(archive, path, tell)
            said[archive.name] = "checksum right"
        except UserError as error:
            said[archive.name] = "checksum wrong"
            wrong.append((str(path), str(error)))
    return said, wrong


def _counts(labels: Sequence[int], classes: int) -> tuple[int, ...]:
    found = Counter(labels)
    return tuple(found[label] for label in range(classes))


def _read(root: Path, listings: dict[str, Listing], tell: Tell) -> tuple[dict[str, list[int]], list[tuple[str, str]]]:
    """The labels of the pictures that can be read, by split, and those that cannot, with the reason."""
    total, done = sum(map(len, listings.values())), 0
    labels: dict[str, list[int]] = {name: [] for name in listings}
    broken: list[tuple[str, str]] = []
    said: list[str] = []
    decoders = Decoders(chosen_workers(None), said.append)
    jobs = [(name, first, job) for name, listing in listings.items() for first, job in _jobs(root, listing)]
    try:
        tell(Progress("decoding", root.name, 0, total))
        for (name, first, job), (decoded,) in zip(jobs, decoders.in_order(([job] for *_, job in jobs), PIECE), strict=True):
            done += len(job.paths)
            tell(Progress("decoding", root.name, done, total))
            broken += [(str(root / job.paths[place]), why) for place, why in decoded.broken.items()]
            whole = (place for place in range(len(job.paths)) if place not in decoded.broken)
            labels[name] += [listings[name].labels[first + place] for place in whole]
    except AwayError as error:
        raise UnreadableError(str(error)) from error
    except TrainingError as error:  # a picture that ends the processes that decode it
        raise UserError(str(error)) from error
    finally:
        decoders.close()
    return labels, broken


def _jobs(root: Path, listing: Listing) -> Iterator[tuple[int, Job]]:
    """Each with the place of its first picture in the list."""
    for first in range(0, len(listing), PIECE):
        paths = listing.paths[first : first + PIECE]
        yield first, Job(str(root), paths, _SIZE, spans=tuple(listing.span(first + place) for place in range(len(paths))))
