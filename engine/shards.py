"""WebDataset shards: which pictures lie where in tar archives, found by their headers once and kept in our cache.

A sample is a run of members with one name up to its first dot: `KEY.jpg` and `KEY.cls`, a class's number in ASCII. Archives come
from anywhere: members are never unpacked, and one that is a link, a device or has holes is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from engine.errors import UserError
from engine.listing import Listing, PictureFolder
from engine.paths import cache_dir, private_folder, written_aside
from engine.text import one_line
from engine.unpacking import MOST_MEMBERS, BoundedMember
from engine.untrusted import open_picture, read_object, read_regular

FORMAT = 1  # raised when the same archive would be indexed otherwise
PARTS = ("train", "val", "test")
SUFFIXES = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "ppm"})
ENDING = ".tar"
NAMES = ("classes.txt", "classes.json")
LAYOUT = "lay it out as <path>/train-*.tar and <path>/val-*.tar, or as <path>/train/*.tar and <path>/val/*.tar"
MOST_CLASSES = 100_000
_MOST_INDEX = 1 << 30  # bytes of one that we wrote
_MOST_NAMES = 16 << 20
_LOOK_EVERY = 256  # members between two looks at the time


@dataclass(slots=True)
class Index:
    """The samples of one shard, in its order."""

    members: list[str] = field(default_factory=list)  # the pictures' names
    spans: list[int] = field(default_factory=list)  # of each its first byte and its bytes, one after the other
    labels: list[int] = field(default_factory=list)


def read_shards(root: Path, deadline: float | None = None) -> PictureFolder:
    """The pictures in the shards below `root`. UserError where they are not laid out as they should be, or damaged.

    TimeoutError where that takes until after `deadline`, by time.monotonic; what was indexed by then is kept.
    """
    if not root.is_dir():
        raise UserError(f"dataset.path: there is no folder {one_line(str(root), 300)}; {LAYOUT}")
    found = {part: paths for part in PARTS if (paths := shards_of(root, part))}
    if "train" not in found:
        packed = next((path for path in sorted(root.iterdir()) if re.search(r"\.tar\.\w+$|\.tgz$", path.name)), None)
        why = f"; {one_line(packed.name, 80)} is compressed, which allows no reading at a place: decompress it" if packed else ""
        raise UserError(f"dataset.path: {root} has no training shards{why}; {LAYOUT}")
    if len(found) == 1:
        raise UserError(f"dataset.path: {root} has shards for train, but none for val or test; {LAYOUT}")
    listings = {part: _listing(root, paths, deadline) for part, paths in found.items()}
    classes = _classes(root, 1 + max(max(listing.labels) for listing in listings.values()))
    tests = "test" if "test" in found else "val"
    validation = listings["val"] if len(found) == 3 else None
    counts = ", ".join(f"{len(listing):,} pictures in {len(found[part])} shards for {part}" for part, listing in listings.items())
    said = one_line(f"{root}: {counts}; {len(classes)} classes" + ("; val is the test split" if tests == "val" else ""), 600)
    return PictureFolder(root, classes, listings["train"], listings[tests], validation, said)


def shards_of(root: Path, part: str) -> list[str]:
    """Paths below `root` of a part's shards, in the order of their names and numbers."""
    found = [f"{part}/{name}" for name in _entries(root / part)]
    found += [name for name in _entries(root) if re.match(rf"{part}([-_.0-9]|$)", name)]
    return sorted(found, key=lambda path: [int(text) if text.isdigit() else text for text in re.split(r"([0-9]+)", path)])


def stamp_of(root: Path) -> tuple[Any, ...]:
    """Changes when a shard is added, removed or written anew, or when classes are named otherwise."""
    paths = [path for part in PARTS for path in shards_of(root, part)] + [name for name in NAMES if (root / name).is_file()]
    return tuple((path, found.st_size, found.st_mtime_ns) for path in paths for found in [(root / path).stat()])


def _entries(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if entry.name.endswith(ENDING) and not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}; make it readable") from error


def _listing(root: Path, shards: list[str], deadline: float | None) -> Listing:
    paths: list[str] = []
    labels: list[int] = []
    spans = array("q")
    for shard in shards:
        if not (root / shard).resolve().is_relative_to(root.resolve()):
            raise UserError(f"{one_line(str(root / shard), 300)} is a link that leads out of {root}; put the shard in its place")
        if deadline is not None and time.monotonic() > deadline:  # a million samples are many, even of an index that is kept
            raise TimeoutError("the shards hold too much to be listed now")
        index = _index(root / shard, deadline)
        paths += [f"{shard}/{member}" for member in index.members]
        labels += index.labels
        spans.extend(index.spans)
    if not paths:
        raise UserError(f"{root / shards[0]}: there is no picture in it ({', '.join(sorted(SUFFIXES))}); {LAYOUT}")
    return Listing(tuple(paths), tuple(labels), spans)


def _classes(root: Path, least: int) -> tuple[str, ...]:
    """From classes.txt (a name a line) or classes.json (a list, or {number: name}); numbers where there is neither."""
    for source in (root / name for name in NAMES if (root / name).is_file()):
        try:
            content = read_regular(source, _MOST_NAMES).decode("utf-8")
            told: Any = json.loads(content) if source.suffix == ".json" else [one for one in content.splitlines() if one.strip()]
            told = [told[str(number)] for number in range(len(told))] if isinstance(told, dict) else told
            names = tuple(one_line(name.strip(), 100) for name in told)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{source} names no classes: {one_line(str(error), 100)}; write a name a line, or a list of names"
            ) from error
        if len(names) < max(least, 2):
            raise UserError(f"{source} names {len(names)} classes, but the shards have a class {least - 1}, counted from 0")
        return names
    if least < 2:
        raise UserError(f"{root}: all pictures in its shards are of class 0; at least two classes are needed")
    return tuple(str(number) for number in range(least))


def _index(path: Path, deadline: float | None) -> Index:
    """From the cache where this very file was indexed before."""
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(f"{one_line(str(path), 300)} cannot be read: {error.strerror}; make it readable") from error
    key = hashlib.sha256(repr((FORMAT, os.fspath(path.absolute()), found.st_size, found.st_mtime_ns)).encode("utf-8", "replace"))
    kept = cache_dir() / "shards" / f"{key.hexdigest()[:24]}.json"
    known = read_object(kept, _MOST_INDEX)
    if known is not None and (index := _told(known)) is not None:
        return index
    index = _scanned(path, found.st_size, deadline)
    try:
        private_folder(kept.parent)
        with written_aside(kept) as file:
            file.write(json.dumps({name: getattr(index, name) for name in Index.__slots__}).encode())
    except OSError:
        pass  # no room: it is indexed again next time
    return index


def _told(known: dict[str, Any]) -> Index | None:
    try:
        index = Index(known["members"], known["spans"], known["labels"])
        whole = len(index.spans) == 2 * len(index.members) == 2 * len(index.labels)
        whole = whole and all(type(number) is int and 0 <= number < 2**62 for number in (*index.spans, *index.labels))
        return index if whole and all(isinstance(name, str) for name in index.members) else None
    except (KeyError, TypeError):
        return None


def _scanned(path: Path, total: int, deadline: float | None) -> Index:
    index = Index()
    shown = one_line(str(path), 300)
    try:
        with (
            os.fdopen(open_picture(str(path)), "rb") as file,
            tarfile.open(fileobj=file, mode="r:", tarinfo=BoundedMember) as tar,
        ):
            sample: dict[str, tarfile.TarInfo] = {}
            last = ""
            for member in _members(tar, shown, total, deadline):
                folder, _, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                key = f"{folder}/{stem}"
                if key != last:
                    _add(index, sample, tar, shown)
                    sample, last = {}, key
                if ending.lower() in sample:
                    raise UserError(f"{shown}: {one_line(member.name, 200)} is in it twice, one after the other; make it anew")
                sample[ending.lower()] = member
            _add(index, sample, tar, shown)
            # Python takes an archive that was cut between two members for a whole one: it lacks the zeros at the end.
            file.seek(tar.offset)
            if len(file.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
                raise tarfile.ReadError("it ends too early")
    except TimeoutError:
        raise
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise UserError(f"{shown} is damaged: {one_line(str(error), 200)}; fetch it again, or make it anew") from error
    except OSError as error:
        raise UserError(f"{shown} cannot be read: {error.strerror or error}; make it readable") from error
    return index


def _members(tar: tarfile.TarFile, shown: str, total: int, deadline: float | None) -> Iterator[tarfile.TarInfo]:
    """The files. UserError where one is not what a shard should hold."""
    for number, member in enumerate(tar):
        name = one_line(member.name, 200)
        pure = PurePosixPath(member.name)
        if pure.is_absolute() or ".." in pure.parts or "\0" in member.name:
            raise UserError(f"{shown}: its member {name} has a name that leads out of it; it is not read")
        if not (member.isfile() or member.isdir()) or member.issparse():
            raise UserError(f"{shown}: its member {name} is a link, a device or has holes; it is not read")
        if number > MOST_MEMBERS:
            raise UserError(f"{shown} has more than {MOST_MEMBERS:,} members; make smaller shards")
        if member.offset_data + member.size > total:
            raise tarfile.ReadError(f"it ends within {name}")
        if number % _LOOK_EVERY == 0:
            tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError("the shards hold too much to be counted now")
        if member.isfile():
            yield member


def _add(index: Index, sample: dict[str, tarfile.TarInfo], tar: tarfile.TarFile, shown: str) -> None:
    pictures = [member for ending, member in sample.items() if ending in SUFFIXES]
    if not pictures:
        return  # words about the shard, or a sample of another kind
    name = one_line(pictures[0].name, 200)
    if len(pictures) > 1:
        raise UserError(f"{shown}: {name} and {one_line(pictures[1].name, 200)} are two pictures of one sample; leave one")
    label = sample.get("cls")
    if label is None:
        raise UserError(f"{shown}: {name} comes without its class; put a file with its number and the ending .cls beside it")
    source = tar.extractfile(label)
    text = source.read(32).strip() if source is not None and label.size <= 32 else b""
    if not (text.isdigit() and int(text) < MOST_CLASSES):
        said = one_line(text.decode("ascii", "replace"), 32)
        raise UserError(
            f"{shown}: {one_line(label.name, 200)} says {said!r}, which is no class's number (0 to {MOST_CLASSES - 1:,}); mend it"
        )
    index.members.append(pictures[0].name)
    index.spans += (pictures[0].offset_data, pictures[0].size)
    index.labels.append(int(text))
