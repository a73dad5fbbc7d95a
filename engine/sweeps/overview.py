"""All runs of a sweep at one look, as their folders tell: how many wait, work, are done; which is the best so far."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.run_state import RunState
from engine.sweeps.halving import worthy
from engine.sweeps.manifest import Listed, Manifest, list_sweeps, read_manifest
from engine.sweeps.standing import Standing

Group = Literal["at work", "queue", "done", "held", "stopped", "failed"]
FEW = 10  # sweeps that are looked at together
GROUPS: tuple[Group, ...] = ("at work", "queue", "done", "held", "stopped", "failed")


@dataclass(frozen=True, slots=True)
class Shown:
    """One run, as it stood at the last look. Accuracies in 0..1."""

    folder: str
    label: str
    group: Group
    state: RunState | None  # None: never begun
    phase: str
    share: float | None  # of the phase in hand
    epoch: int  # epochs of the distillation that are done
    epochs: int  # of it in all
    best_accuracy: float | None  # on the split that chooses
    accuracy: float | None  # of the finished student, on the test split
    seconds: float | None
    message: str


class Overview:
    """Looked at again and again; what has come to its end is read once."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.standings = [Standing(manifest.path / run.folder, manifest.rungs(run), manifest.halving) for run in manifest.runs]
        self.rows: tuple[Shown, ...] = ()

    def look(self) -> None:
        """Reads what is new."""
        for standing in self.standings:
            if standing.state is not RunState.FINISHED:
                standing.look()
        fit = self._worthy()
        self.rows = tuple(
            _shown(run, standing, number in fit)
            for number, (run, standing) in enumerate(zip(self.manifest.runs, self.standings, strict=True))
        )

    @property
    def counts(self) -> Counter[Group]:
        """How many runs are in each group."""
        return Counter(row.group for row in self.rows)

    @property
    def started(self) -> float | None:
        """When the first of its runs began, in seconds since the epoch; None where none has."""
        return min((standing.started for standing in self.standings if standing.started is not None), default=None)

    @property
    def best(self) -> Shown | None:
        """The run whose student is the most accurate so far on the split that chooses; of equal ones the first."""
        return next(iter(ranked([row for row in self.rows if row.best_accuracy is not None])), None)

    def _worthy(self) -> frozenset[int]:
        if self.manifest.halving is None:
            return frozenset(range(len(self.standings)))
        return worthy({n: standing.scores for n, standing in enumerate(self.standings)}, self.manifest.halving.eta)


def look_at_sweeps(runs: Path, known: Mapping[Path, Overview]) -> dict[Path, Overview]:
    """The newest sweeps in a folder of runs, each looked at; what is `known` of them is gone on with."""
    found = {}
    for path in list_sweeps(runs)[:FEW]:
        manifest = read_manifest(path)
        if manifest is None or not manifest.runs:
            continue
        before = known.get(path)
        found[path] = before if before is not None and before.manifest == manifest else Overview(manifest)
        found[path].look()
    return found


def ranked(rows: Sequence[Shown]) -> list[Shown]:
    """The best first; those of which nothing is known yet come last."""
    return sorted(rows, key=lambda row: -1.0 if row.best_accuracy is None else row.best_accuracy, reverse=True)


def _shown(run: Listed, standing: Standing, fit: bool) -> Shown:
    return Shown(
        run.folder,
        run.label,
        _group(standing, fit),
        standing.state,
        standing.phase,
        standing.share,
        standing.epoch,
        standing.epochs or run.epochs,
        standing.best_accuracy,
        standing.accuracy,
        standing.seconds,
        standing.message,
    )


def _group(standing: Standing, fit: bool) -> Group:
    state = standing.state
    if state is None:
        return "queue"
    if state.live:
        return "at work"
    if state is RunState.FINISHED:
        return "done"
    if state is RunState.STOPPED:
        return "held" if standing.scores and not fit else "stopped"
    return "failed"
