"""`sweep.json`: what a folder of runs is about, for whoever looks at it later; and the lock of the command that works on it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine import locks
from engine.errors import UserError
from engine.paths import private_folder, write_whole
from engine.run_dir import NAME
from engine.sweeps.form import HalvingPart
from engine.text import plain
from engine.untrusted import as_number, as_text, open_regular, read_object

FILE, LOCK = "sweep.json", "sweep.lock"
MOST_BYTES = 16 << 20  # of a manifest: ten thousand runs
MOST_SWEEPS = 200  # that are listed


@dataclass(frozen=True, slots=True)
class Listed:
    """A run of a sweep."""

    folder: str  # its name, in the sweep's folder
    label: str
    epochs: int  # of its distillation


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a sweep is."""

    path: Path
    name: str
    description: str
    halving: HalvingPart | None
    runs: tuple[Listed, ...]

    def rungs(self, run: Listed) -> tuple[int, ...]:
        """Epochs after which a run is compared with the others."""
        return self.halving.rungs(run.epochs) if self.halving is not None else ()


def write_manifest(manifest: Manifest) -> None:
    """Into the sweep's folder, which is made. UserError where that is not possible."""
    content = {
        "name": manifest.name,
        "description": manifest.description,
        "halving": None if manifest.halving is None else manifest.halving.model_dump(mode="json"),
        "runs": [{"folder": run.folder, "label": run.label, "epochs": run.epochs} for run in manifest.runs],
    }
    try:
        private_folder(manifest.path)
        write_whole(manifest.path / FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise unwritable(manifest.path, error) from error


def unwritable(folder: Path, error: OSError) -> UserError:
    """That no run can lie in a folder, and the remedy."""
    return UserError(f"{plain(str(folder))} cannot be written: {error.strerror or error}; name another place with --runs")


def read_manifest(path: Path) -> Manifest | None:
    """Of a sweep's folder, whatever its file says; None where it is no sweep's."""
    found = read_object(path / FILE, MOST_BYTES)
    if found is None or not isinstance(found.get("runs"), list):
        return None
    halving = found.get("halving")
    try:
        part = HalvingPart.model_validate(halving) if halving is not None else None
    except ValidationError:
        part = None
    runs = [run for one in found["runs"] if (run := _listed(one)) is not None]
    return Manifest(path, as_text(found.get("name")) or path.name, as_text(found.get("description")), part, tuple(runs))


def _listed(one: Any) -> Listed | None:
    folder = as_text(one.get("folder")) if isinstance(one, dict) else ""
    if not NAME.fullmatch(folder):  # nothing outside of the sweep's folder
        return None
    epochs = as_number(one.get("epochs")) or 0
    return Listed(folder, as_text(one.get("label")) or folder, int(min(max(epochs, 0), 1_000_000)))


def label_of(run: Path) -> str:
    """What tells a run from the others of its sweep, by its folder; "" where it is in no sweep's."""
    manifest = read_manifest(run.absolute().parent)
    return next((one.label for one in manifest.runs if one.folder == run.name), "") if manifest is not None else ""


def list_sweeps(runs: Path) -> list[Path]:
    """The folders of the sweeps (and of tables that were done as sweeps are) in a folder of runs, the newest first."""
    return newest_first(runs, FILE)[:MOST_SWEEPS]


def newest_first(runs: Path, inner: str) -> list[Path]:
    """The folders of sweeps and tables that have something called `inner` ("." is each itself), by that one's last change."""
    found = []
    for parent in (runs / "sweeps", runs / "tables"):
        try:
            with os.scandir(parent) as entries:
                names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
        except OSError:
            continue
        for name in names:
            try:
                found.append(((parent / name / inner).lstat().st_mtime, parent / name))
            except OSError:
                continue
    return [path for _, path in sorted(found, key=lambda pair: pair[0], reverse=True)]


def is_sweep(path: Path) -> bool:
    """Whether a folder is a sweep's."""
    try:
        return (path / FILE).is_file()
    except (OSError, ValueError):  # no file can have such a name
        return False


def find_sweep(runs: Path, name: str) -> Path | None:
    """A sweep by its name, or by its folder's path."""
    for path in (runs / "sweeps" / name, runs / "tables" / name, Path(name).expanduser()):
        if is_sweep(path):
            return path
    return None


class SweepLock:
    """Held by the one command that works on a sweep; the system frees it when that ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """UserError where another command has it, or the folder cannot be written."""
        try:
            private_folder(folder)
            self._handle = open_regular(folder / LOCK, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise unwritable(folder, error) from error
        where = plain(str(folder))
        busy = f"another command is at work on {where}; wait for its end, or stop it by Ctrl-C"
        locks.take_or_refuse(self._handle, where, busy)

    def release(self) -> None:
        """Lets another command have it."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def is_worked_on(folder: Path) -> bool:
    """Whether a command of this machine is at work on a sweep now, as far as that can be told."""
    return locks.held(folder / LOCK) is True
