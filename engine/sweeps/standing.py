"""How far a run of a sweep is and how good, as its folder tells: read again and again, while it is at work or not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from engine.errors import UserError
from engine.events import CacheProgress, EpochEnded, Event, PhaseStarted, from_line
from engine.preset import Preset
from engine.run_client import DirectoryClient
from engine.run_dir import RunDir
from engine.run_state import RunState
from engine.sweeps.executor import state_of
from engine.sweeps.form import HalvingPart
from engine.teachers.store import content_key
from engine.untrusted import as_number, as_share, as_text, open_regular, read_object, read_tail

MOST_POLLS = 100  # of one look, each of at most 50 ms
TAIL = 1 << 20  # bytes at the end of a run's events, in which its last epoch is looked for


class Standing:
    """One run. What it says is as of the last `look`."""

    def __init__(self, folder: Path, rungs: Sequence[int] = (), halving: HalvingPart | None = None) -> None:
        """`rungs`: epochs after which the run is compared with others, by `halving`."""
        self.folder, self.rungs, self.halving = folder, tuple(rungs), halving
        self.state: RunState | None = None  # None: never begun
        self.started: float | None = None  # seconds since the epoch
        self.phase = ""
        self.epoch = 0  # epochs of the distillation that are done
        self.epochs = 0  # of the distillation, in all
        self.share: float | None = None  # of the phase in hand, 0..1
        self.best_accuracy: float | None = None  # on the split that chooses, 0..1
        self.accuracy: float | None = None  # of the finished student on the test split, 0..1
        self.seconds: float | None = None  # that a run which ended was at work
        self.message = ""
        self.scores: list[float] = []  # at the rungs it has reached; more is better
        self._metric: float | None = None
        self._dir, self._client = RunDir(folder), DirectoryClient(folder, metrics=False)

    def look(self) -> None:
        """Reads what is new."""
        before, self.state = self.state, state_of(self.folder)
        if self.state is None:
            return
        if self.state is not RunState.FINISHED or self.halving is not None or not self._look_at_ends():
            self._look_at_all()
        if self.state.live:
            self._look_at_heartbeat()
        if not self.state.live and before is not self.state:
            result = self._client.result() or {}
            self.accuracy, self.seconds = as_share(result.get("student_accuracy")), result.get("seconds")
            self.message = str(result.get("message", ""))
            if (best := as_share(result.get("best_accuracy"))) is not None:
                self.best_accuracy = best

    def _look_at_all(self) -> None:
        for _ in range(MOST_POLLS):
            for event in self._client.poll():
                self._note(event)
            if self._client.caught_up():
                break

    def _look_at_ends(self) -> bool:
        """Of a run that is done, and may have many thousand lines, the first one and its last epoch; whether they were found."""
        try:
            with os.fdopen(open_regular(self._dir.events), "rb") as file:
                first = from_line(file.readline(TAIL).decode(errors="replace"))
        except OSError:
            return False
        for line in reversed(read_tail(self._dir.events, TAIL).split(b"\n")):
            last = from_line(line.decode(errors="replace")) if line.startswith(b'{"kind":"epoch_ended"') else None
            if first is not None and isinstance(last, EpochEnded) and last.phase == "distil":
                self.phase, self.epochs = last.phase, last.epoch + 1
                self._note(first)
                self._note(last)
                return True
        return False

    def _look_at_heartbeat(self) -> None:
        beat = read_object(self._dir.heartbeat) or {}
        steps = as_number(beat.get("steps"))
        if steps and as_text(beat.get("phase")) == self.phase:
            self.share = as_share((as_number(beat.get("step")) or 0.0) / steps)

    def _note(self, event: Event) -> None:
        if self.started is None:
            self.started = event.t
        if isinstance(event, PhaseStarted):
            self.phase, self.share = event.phase, None
            if event.phase == "distil":
                self.epochs = event.epochs
        elif isinstance(event, CacheProgress):
            self.phase, self.share = "cache", event.done / event.total if event.total > 0 else None
        elif isinstance(event, EpochEnded) and event.phase == "distil":
            self._note_epoch(event)

    def _note_epoch(self, event: EpochEnded) -> None:
        self.epoch = event.epoch + 1
        if event.best_accuracy is not None:
            self.best_accuracy = event.best_accuracy
        if self.halving is None:
            return
        if event.measured_accuracy is not None:  # not every epoch is measured
            self._metric = getattr(event, self.halving.metric)
        # A process that goes on from a checkpoint does some epochs again: what was seen of them first counts.
        while len(self.scores) < len(self.rungs) and self.epoch >= self.rungs[len(self.scores)]:
            self.scores.append(self.halving.score(self._metric))


def networks_of(preset: Preset) -> frozenset[str]:
    """The store's keys of the networks that a sweep's run trains, or finds, before it distils: teachers, and the student alone.

    Empty where that cannot be told, because of pictures that cannot be read: the run itself says why.
    """
    asked = [(part.arch, part.seed, part.recipe, part.pretrained) for part in preset.teachers if part.trained]
    if preset.evaluate.student_alone and preset.method.name != "ce":
        asked.append((preset.student.arch, preset.seed, preset.train, False))
    try:
        return frozenset(  # each run of a sweep is one process
            content_key(preset, arch, seed, recipe, ranks=1, pretrained=pretrained) for arch, seed, recipe, pretrained in asked
        )
    except (UserError, OSError, ValueError, RuntimeError):
        return frozenset()
