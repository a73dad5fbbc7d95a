"""The runs of sweeps and tables as a list to choose from: each with the name of what it belongs to and its own in that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.run_list import RunSummary, list_runs
from engine.sweeps.manifest import newest_first, read_manifest

FEW = 10  # sweeps and tables whose runs are listed


@dataclass(frozen=True, slots=True)
class Member:
    """A run of a sweep or a table. Its names are untrusted."""

    group: str  # the sweep's, or table's, name
    label: str  # the run's, in it
    run: RunSummary


def list_members(runs: Path, first: Path | None = None) -> list[list[Member]]:
    """Of the newest sweeps and tables in a folder of runs, and before them of the folder `first` where it is one of them: the
    runs that were begun, the most accurate ones first. One that has none is left out.
    """
    folders = [path for path in newest_first(runs, ".") if path.is_dir()]
    if first is not None and any(path.absolute() == first.absolute() for path in folders):
        folders.sort(key=lambda path: path.absolute() != first.absolute())
    return [members for path in folders[:FEW] if (members := _members(path))]


def _members(path: Path) -> list[Member]:
    manifest = read_manifest(path)
    labels = {run.folder: run.label for run in manifest.runs} if manifest is not None else {}
    name = manifest.name if manifest is not None else path.name
    ranked = sorted(list_runs(path), key=lambda run: -1.0 if run.student_accuracy is None else run.student_accuracy, reverse=True)
    return [Member(name, labels.get(run.path.name, run.path.name), run) for run in ranked]
