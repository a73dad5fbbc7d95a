"""Where a data set's files lie on this machine, found without reading them."""

from __future__ import annotations

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
            if all(_is_file(found.path(name)) for name in facts.files):
                return found
    return None


def files_of(facts: DatasetFacts, data_root: Path) -> Found:
    """As `find_files`; UserError, with the remedy, where they are missing."""
    found = find_files(facts, data_root)
    if found is None:
        raise UserError(f"{facts.name} is not in {data_root}. {remedy(facts, data_root)}")
    return found


def remedy(facts: DatasetFacts, data_root: Path) -> str:
    """What to do where the files are missing."""
    packages = [Path(folder).name for folder in facts.folders if folder.startswith("/")]
    debian = f", or on Debian install the package dataset-{packages[0]}" if packages else ""
    return (
        f"Where there is a network: mmkd data fetch {facts.name}. Else put the {len(facts.files)} files "
        f"{', '.join(f'{name}.gz' for name in facts.files)} ({facts.origin}) into {data_root / facts.name}{debian}"
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder on the way that may not be entered
        return False
