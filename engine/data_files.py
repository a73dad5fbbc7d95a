"""Where a data set's files lie on this machine, found without reading them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.catalog import DatasetFacts
from engine.errors import UserError


@dataclass(frozen=True, slots=True)
class Found:
    """A folder that holds all files of a data set."""

    folder: Path
    ending: str  # of each file's name: "" or ".gz"

    def path(self, name: str) -> Path:
        """Of the file that is published as `name`."""
        return self.folder / f"{name}{self.ending}"


def find_files(facts: DatasetFacts, data_root: Path) -> Found | None:
    """The first folder that holds all files, unpacked or as published; None where there is none such."""
    for folder in (data_root / place for place in facts.folders):
        for ending in ("", ".gz"):
            found = Found(folder, ending)
            if all(_is_there(found, name) for name in facts.files):
                return found
    return None


def find_archives(facts: DatasetFacts, data_root: Path) -> Path | None:
    """The first folder that holds all of the publisher's archives, not unpacked; None where there is none such."""
    for folder in (data_root / place for place in facts.own_folders):
        if facts.archives and all(_is(Path.is_file, folder / archive.name) for archive in facts.archives):
            return folder
    return None


def missing_files(facts: DatasetFacts, data_root: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder that holds the most of a data set's files (its own where all are empty), and which are not there."""
    best = (data_root / facts.folders[0], facts.files)
    for folder in (data_root / place for place in facts.folders):
        absent = tuple(name for name in facts.files if not any(_is_there(Found(folder, ending), name) for ending in ("", ".gz")))
        if len(absent) < len(best[1]):
            best = (folder, absent)
    return best


def files_of(facts: DatasetFacts, data_root: Path) -> Found:
    """As `find_files`; UserError, with the remedy, where they are missing."""
    found = find_files(facts, data_root)
    if found is None:
        raise UserError(f"{facts.name} is not in {data_root}. {remedy(facts, data_root)}")
    return found


def remedy(facts: DatasetFacts, data_root: Path) -> str:
    """What to do where the files are missing."""
    if find_archives(facts, data_root) is not None:
        return f"Its archives are there: unpack them with mmkd data fetch {facts.name}"
    names = ", ".join(archive.name for archive in facts.archives)
    count = f"the {len(facts.archives)} files {names}" if len(facts.archives) > 1 else names
    put = f"put {count} ({facts.origin}) into {data_root / facts.folders[0]} and run mmkd data fetch {facts.name}"
    if facts.licence:
        return f"It needs {facts.licence}: {put}, which unpacks them"
    return f"Where there is a network: mmkd data fetch {facts.name}. Else {put}"


def _is_there(found: Found, name: str) -> bool:
    return _is(Path.is_dir, found.folder / name) if name.endswith("/") else _is(Path.is_file, found.path(name))


def _is(kind: Callable[[Path], bool], path: Path) -> bool:
    try:
        return kind(path)
    except OSError:  # a folder on the way that may not be entered
        return False
