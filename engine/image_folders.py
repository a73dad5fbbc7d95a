"""A user's own pictures, in a folder a class: what is in them, counted and split without reading one; or in shards."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from engine.catalog import DATASETS, DatasetFacts
from engine.dataset_facts import FOLDER, SHARDS, resize_for
from engine.errors import UserError
from engine.listing import Listing, PictureFolder
from engine.paths import expanded
from engine.preset import DatasetPart
from engine.text import one_line

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
PATIENCE = 0.3  # seconds that a display waits for a folder to be counted
TEST_SHARE = 5  # one picture in so many of each class is for the test where the folder says nothing
SAMPLE = 1000  # pictures whose sizes are looked at, to know a folder again
# What a folder of a split may be called, in capitals too.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
LAYOUT = "lay it out as <path>/train/<class>/* and <path>/test/<class>/*, or as <path>/<class>/*"


@dataclass(frozen=True, slots=True)
class Outside:
    """Links that lead out of a folder, as a search comes upon them; and until when it may go on."""

    paths: list[str] = field(default_factory=list)
    deadline: float | None = None

    def check_time(self) -> None:
        """TimeoutError where it is over."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TimeoutError("the folder holds too much to be counted now")


def read_folder(root: Path, split_seed: int, deadline: float | None = None) -> PictureFolder:
    """The pictures below `root`. UserError where they are not laid out so that classes can be told.

    TimeoutError where that takes until after `deadline`, by time.monotonic.

    The folders of the splits may have their longer names, too (SPLITS). Without train/ and test/ (or val/), a fifth of each class
    is the test split: those whose paths, hashed with the seed, come first. So a picture that is added moves no other from one
    split to the other.
    """
    if not root.is_dir():
        raise UserError(f"dataset.path: there is no folder {one_line(str(root), 300)}; {LAYOUT}")
    parts = _parts(root)
    outside = Outside(deadline=deadline)
    if "train" not in parts:
        for part in parts.values():
            if class_folders(part, root):
                raise UserError(f"dataset.path: {root} has a folder {part.name}, but none to train on; {LAYOUT}")
        classes, all_of = _listed(root, root, None, outside)
        train, test = _drawn(all_of, split_seed)
        how = f"one folder for each of {len(classes)} classes; one picture in {TEST_SHARE} is kept for the test"
        return PictureFolder(root, classes, train, test, None, _said(root, how, train, test, None, outside))
    if len(parts) == 1:
        raise UserError(f"dataset.path: {root} has a folder {parts['train'].name}, but neither test nor val; {LAYOUT}")
    classes, train = _listed(root, parts["train"], None, outside)
    tests = "test" if "test" in parts else "val"
    test = _listed(root, parts[tests], classes, outside)[1]
    validation = _listed(root, parts["val"], classes, outside)[1] if len(parts) == 3 else None
    names = ", ".join(part.name for part in parts.values())
    how = f"folders {names} of {len(classes)} classes" + (f", {parts['val'].name} is the test split" if tests == "val" else "")
    return PictureFolder(root, classes, train, test, validation, _said(root, how, train, test, validation, outside))


def draws_its_test(root: Path) -> bool:
    """Whether a folder of pictures has no test split of its own, so that the seed decides which pictures are for the test; or
    cannot be looked into now.
    """
    try:
        return "train" not in _parts(root)
    except (OSError, UserError):
        return True


def read_own(part: DatasetPart, deadline: float | None = None) -> PictureFolder:
    """The pictures of a user's own that a preset names, in a folder a class or in shards. As `read_folder`."""
    root = expanded(part.path or "")
    if part.name == SHARDS:
        from engine.shards import read_shards  # here: no other folder needs what reads archives

        return read_shards(root, deadline)
    return read_folder(root, part.split_seed, deadline)


def own_part(folder: Path, split_seed: int = 0) -> DatasetPart:
    """A folder of a user's own as presets name it: as shards where it has such to train on, else as pictures."""
    from engine.shards import shards_of

    kind = SHARDS if shards_of(folder, "train") and not _holds_folders(folder / "train") else FOLDER
    return DatasetPart(name=kind, path=str(folder.resolve()), split_seed=split_seed)


def _holds_folders(folder: Path) -> bool:
    """Whether it may be pictures, a folder a class; an archive of them may still lie beside."""
    return folder.is_dir() and any(entry.is_dir() and entry.name[0] != "." for entry in folder.iterdir())


def of_size(part: DatasetPart, size: int | None, resize: int | None = None) -> DatasetPart:
    """With what --size and --resize say. UserError where the images have a size of their own, or `resize` is smaller."""
    facts = DATASETS[part.name]
    for option, value in (("--size", size), ("--resize", resize)):
        if value is not None and not facts.from_files:
            raise UserError(
                f"{option} {value}: the images of {part.name} have {facts.size}x{facts.size} pixels; leave {option} out"
            )
    part = part.model_copy(update={"size": size or part.size, "resize": resize or part.resize})
    if part.resize is not None and part.resize < (whole := part.size or facts.size):
        option, other = "--resize" if resize else "dataset.resize", "--size" if size else "size"
        raise UserError(f"{option} {part.resize} is smaller than the {whole} pixels of {other}; give {whole} or more")
    return part


def pictures_below(folder: Path, root: Path, outside: Outside) -> list[str]:
    """Paths below `root` of the pictures in `folder` and its folders, sorted. Links that lead out of `root` are left out, and
    those to folders too; what was left out is added to `outside`.
    """
    found = []
    real = str(root.resolve()) + os.sep
    for place, folders, names in os.walk(folder):
        outside.check_time()
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith(".") or os.path.splitext(name)[1].lower() not in SUFFIXES:  # noqa: PTH122
                continue
            path = os.path.join(place, name)  # noqa: PTH118  a million of them
            if os.path.islink(path) and not os.path.realpath(path).startswith(real):  # noqa: PTH114
                outside.paths.append(path)
            else:
                found.append(os.path.relpath(path, root))
    return sorted(found)


def class_folders(folder: Path, root: Path) -> list[str]:
    """Names of the folders in `folder`, sorted; hidden ones are passed over. UserError where one leads out of `root`."""
    real = root.resolve()
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}; make it readable") from error
    for place in (folder, *(folder / name for name in names)):
        if not place.resolve().is_relative_to(real):
            raise UserError(
                f"{one_line(str(place), 300)} is a link that leads out of {root}, and such links are not followed; put the "
                "folder itself there (on one disk, cp -rl does without a copy of the pictures)"
            )
    return names


def facts_of(part: DatasetPart) -> DatasetFacts:
    """A preset's data set: the catalogue's facts with the size asked for, and for a user's own folder what is in it.

    A folder that cannot be read, or not within PATIENCE, has no classes and no images: a run says why, a display need not.
    """
    facts = sized(part)
    if facts.own and part.path is not None:
        with suppress(UserError, OSError, ValueError, RuntimeError):  # no path of this system's
            folder = _read_once(part.name, str(part.path), part.split_seed, _stamp(part), PATIENCE)
            if isinstance(folder, PictureFolder):
                facts = facts_in(facts, folder)
    return facts


def sized(part: DatasetPart) -> DatasetFacts:
    """The catalogue's facts with the sizes asked for; `resize` is None where what is asked for is what is usual."""
    facts = DATASETS[part.name]
    size = part.size or facts.size
    return replace(facts, size=size, resize=None if part.resize == resize_for(size) else part.resize)


def trouble_with(part: DatasetPart) -> str:
    """Why a user's own folder cannot be read; "" where nothing is known to be wrong with it, as it takes longer than PATIENCE."""
    try:
        found = _read_once(part.name, str(part.path), part.split_seed, _stamp(part), PATIENCE)
    except (UserError, OSError, ValueError, RuntimeError):
        found = _looked_at(part, PATIENCE)
    return found if isinstance(found, str) else ""


def facts_in(facts: DatasetFacts, folder: PictureFolder) -> DatasetFacts:
    """A user's own data set with what was found in its folder."""
    return replace(
        facts,
        classes=folder.classes,
        train_images=len(folder.train),
        validation_images=None if folder.validation is None else len(folder.validation),
        test_images=len(folder.test),
    )


def folder_digest(part: DatasetPart) -> str:
    """Of what is in a user's own folder, wherever that lies, by names, numbers and some sizes: pictures put in, taken out or
    all made anew change it.
    """
    try:
        return _digest_once(part.name, str(part.path), part.split_seed, _stamp(part))
    except (UserError, OSError, ValueError, RuntimeError):  # no path of this system's
        return ""


@lru_cache(maxsize=8)
def _digest_once(name: str, path: str, split_seed: int, stamp: tuple[object, ...]) -> str:
    folder = _read_once(name, path, split_seed, stamp, None)
    if not isinstance(folder, PictureFolder):
        return ""
    found = hashlib.sha256(repr(folder.classes).encode())
    for listing in (folder.train, folder.validation, folder.test):
        found.update(repr(listing and (len(listing), listing.paths)).encode("utf-8", "surrogateescape"))
        if listing is None:
            continue
        if listing.spans is not None:  # pictures without folders to tell their classes
            found.update(repr((listing.labels, listing.spans)).encode())
        else:
            some = listing.paths[:: -(-len(listing) // SAMPLE) or 1]
            found.update(repr([(folder.root / path).stat().st_size for path in some]).encode())
    return found.hexdigest()[:16]


@lru_cache(maxsize=32)
def _read_once(
    name: str, path: str, split_seed: int, stamp: tuple[object, ...], patience: float | None
) -> PictureFolder | str | None:
    """What is in the folder; why it cannot be read; None: that takes longer than `patience`."""
    return _looked_at(DatasetPart(name=name, path=path, split_seed=split_seed), patience)


def _looked_at(part: DatasetPart, patience: float | None) -> PictureFolder | str | None:
    try:
        return read_own(part, None if patience is None else time.monotonic() + patience)
    except TimeoutError:
        return None
    except (UserError, OSError, ValueError, RuntimeError) as error:
        return str(error)


def _stamp(part: DatasetPart) -> tuple[object, ...]:
    """Changes when a picture is put into a class's folder, or taken out, and when one that could not be read can be."""
    root = expanded(part.path or "")
    if part.name == SHARDS:
        from engine.shards import stamp_of

        return stamp_of(root)
    folders = [root]
    for entry in _folders(root):
        folders.append(Path(entry.path))
        if entry.name.lower() in SPLITS:
            folders += [Path(one.path) for one in _folders(entry.path)]
    return tuple(folder.stat().st_ctime_ns for folder in folders)


def _folders(place: Path | str) -> Iterator[os.DirEntry[str]]:
    return (entry for entry in os.scandir(place) if entry.is_dir())


def _parts(root: Path) -> dict[str, Path]:
    """The folders of the splits that there are: train, val, test. UserError where there are two of one."""
    found: dict[str, Path] = {}
    for name in sorted(entry.name for entry in _folders(root)):
        part = SPLITS.get(name.lower())
        if part in found:
            raise UserError(f"dataset.path: {root} has the folders {found[part].name} and {name}, which mean the same; {LAYOUT}")
        if part is not None:
            found[part] = root / name
    return {part: found[part] for part in ("train", "val", "test") if part in found}


def _listed(root: Path, folder: Path, classes: tuple[str, ...] | None, outside: Outside) -> tuple[tuple[str, ...], Listing]:
    names = class_folders(folder, root)
    complete = classes is None
    if classes is None:
        classes = tuple(names)
        if len(classes) < 2:
            raise UserError(f"dataset.path: {folder} holds {len(classes) or 'no'} class folder{'s' * (not classes)}; {LAYOUT}")
    elif unknown := sorted(set(names) - set(classes)):
        raise UserError(
            f"dataset.path: {one_line(str(folder / unknown[0]), 300)} is of a class that train has not; "
            "remove it, or add it there"
        )
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        own = pictures_below(folder / name, root, outside) if name in names else []
        if not own and complete:
            raise UserError(
                f"dataset.path: {one_line(str(folder / name), 300)} holds no picture "
                f"({', '.join(sorted(SUFFIXES))}); add some, or remove the folder"
            )
        paths += own
        labels += [label] * len(own)
    if not paths:
        raise UserError(f"dataset.path: {folder} holds no picture; {LAYOUT}")
    return classes, Listing(tuple(paths), tuple(labels))


def _drawn(listing: Listing, seed: int) -> tuple[Listing, Listing]:
    """A training and a test split of all pictures, class by class."""
    by_class: dict[int, list[str]] = {}
    for path, label in zip(listing.paths, listing.labels, strict=True):
        by_class.setdefault(label, []).append(path)
    train: list[tuple[str, int]] = []
    test: list[tuple[str, int]] = []
    for label, paths in by_class.items():
        if len(paths) < 2:
            raise UserError(f"dataset.path: one picture is too few to split: {one_line(paths[0], 300)}; add more of its class")
        ranked = sorted(paths, key=lambda path: hashlib.blake2b(f"{seed}\x1f{path}".encode("utf-8", "surrogateescape")).digest())
        cut = max(1, round(len(paths) / TEST_SHARE))
        test += [(path, label) for path in sorted(ranked[:cut])]
        train += [(path, label) for path in sorted(ranked[cut:])]
    return _of(train), _of(test)


def _of(pairs: Sequence[tuple[str, int]]) -> Listing:
    return Listing(tuple(path for path, _ in pairs), tuple(label for _, label in pairs))


def _said(root: Path, how: str, train: Listing, test: Listing, validation: Listing | None, outside: Outside) -> str:
    counts = f"{len(train):,} pictures to train on, {len(test):,} to test on"
    counts += f", {len(validation):,} to choose the best epoch on" if validation is not None else ""
    left = (
        f"; {len(outside.paths)} links that lead out of it are passed over, the first is {outside.paths[0]}"
        if outside.paths
        else ""
    )
    return one_line(f"{root}: {how}: {counts}{left}", 600)
