"""The checkpoints of one run: saved now and then, the newest kept, taken up again by a process that goes on with it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from engine.checkpoint import load_checkpoint, save_checkpoint
from engine.errors import UnreadableError, UserError
from engine.events import CheckpointSaved, Event, Log
from engine.kernels.finite import all_finite
from engine.origin import changes_of_machine, machine_of, refuse_another
from engine.paths import FULL, remove_tree
from engine.preset import CheckpointsPart
from engine.ranks import ALONE, Ranks
from engine.run_dir import CHECKPOINT
from engine.text import one_line
from engine.trainer import Phase, Trainer
from engine.untrusted import readable
from engine.version import versions

# A checkpoint that is being replaced is for a moment found only by its other name.
_NAME = re.compile(rf"\.?(?P<name>{CHECKPOINT.pattern})(?:\.old)?")
_LEFTOVER = re.compile(r"\..*\.partial")


class RunCheckpoints:
    """The folder `checkpoints/` of a run: `<phase>-<index>-step-<step>`, each a checkpoint of one training.

    Of several ranks, the first one alone reads and writes the folder; all of them call what takes or gives a training's state.
    """

    def __init__(
        self, folder: Path, emit: Callable[[Event], None], asked: CheckpointsPart | None = None, ranks: Ranks = ALONE
    ) -> None:
        self.folder, self.emit, self.asked, self.ranks = folder, emit, asked or CheckpointsPart(), ranks
        self._saved = self._began = time.monotonic()
        self._before = 0.0  # seconds of work before the checkpoint that was taken up
        self._at: tuple[object, ...] = ()  # where the newest one was saved or taken up
        self.origin: dict[str, Any] | None = None  # what checkpoints are made with, see engine.origin
        self.unsaved = ""  # what a stop would lose now, where the newest could not be saved

    def seconds(self) -> float:
        """Of work that led to where the run is now."""
        return self._before + time.monotonic() - self._began

    def due(self, trainer: Trainer) -> bool:
        """Whether the last one is old enough, or after enough epochs; not twice at the same place, and later where the newest
        steps came out not finite.
        """
        every, epochs = self.asked.every, self.asked.every_epochs
        due = every is not None and time.monotonic() - self._saved >= every
        if epochs is not None and trainer.step_in_epoch == 0 and trainer.epoch:
            due = due or trainer.epoch % epochs == 0
        return due and self._at != _place(trainer) and not trainer.tally.in_a_row()

    def save(self, trainer: Trainer) -> str | None:
        """Saves one, then deletes older ones; its name. Where that fails the run goes on, and people are told.

        What is not finite is not saved. Where the disk is full, all but the newest make room.
        """
        tensors, facts = trainer.state()
        name = self._save(trainer, tensors, facts) if self.ranks.first else None
        sent = self.ranks.sent(name.encode() if name else None)
        return None if sent is None else sent.decode()

    def _save(self, trainer: Trainer, tensors: dict[str, Tensor], facts: dict[str, Any]) -> str | None:
        phase = _key(trainer.phase)
        name = f"{phase}-step-{trainer.step:06d}"
        self._saved = time.monotonic()
        if (wrong := _not_finite(tensors)) is not None:
            message = f"the checkpoint {name} is not saved, because {wrong} is not finite; the one before it stays"
            self.emit(Log(level="error", message=message))
            self.unsaved = self._loss(trainer)
            return None
        facts |= {"versions": versions(), "machine": machine_of(trainer.parameters[0].device)}
        facts |= {"seconds": round(self.seconds(), 3), "origin": self.origin}
        try:
            if self.folder.is_symlink():
                raise OSError(f"{self.folder} is a link; nothing is written through it")
            self._write(name, phase, tensors, facts)
        except OSError as error:
            message = f"the checkpoint {name} could not be saved: {error.strerror or error}; the one before it stays"
            self.emit(Log(level="error", message=message))
            self.unsaved = self._loss(trainer)
            return None
        self._at, self.unsaved = _place(trainer), ""
        self.emit(CheckpointSaved(path=f"checkpoints/{name}", step=trainer.step))
        self._prune(phase, trainer.step)
        return name

    def _loss(self, trainer: Trainer) -> str:
        """What is lost where the training ends here, and from where it would go on; nothing at the newest one's place."""
        if self._at == _place(trainer):
            return ""
        lost = f"the last steps of {trainer.phase.label} could not be saved"
        with suppress(OSError):  # else nobody knows now
            names = self._names(_key(trainer.phase))
            return f"{lost}: mmkd resume " + (f"goes on from checkpoints/{names[-1]}" if names else "begins it anew")
        return lost

    def _prune(self, phase: str, step: int) -> None:
        """Deletes what is not to be kept beside the one of `step`; where the folder cannot be listed, the next one sees to it."""
        try:
            names = self._names(phase)
        except OSError as error:
            self.emit(Log(level="warning", message=f"older checkpoints are not deleted yet: {error.strerror or error}"))
            return
        # One of a higher step is of what was before: the run would go on from there.
        later = [other for other in names if _step(other) > step]
        own = [other for other in names if other not in later]
        for old in later + own[: -self.asked.keep]:
            self._delete(old)

    def _write(self, name: str, phase: str, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        try:
            save_checkpoint(self.folder / name, tensors, facts)
        except OSError as error:
            older = self._names(phase)[:-1]
            if error.errno not in FULL or not older:
                raise
            for old in older:
                self._delete(old)
            save_checkpoint(self.folder / name, tensors, facts)

    def roll_back(self, trainer: Trainer, step: int) -> str | None:
        """Takes weights and optimisers back to the newest whole checkpoint of at most `step` steps; its name, or None.

        The trainer's position stays: what it would meet again on the same way would be the same. UnreadableError as in `take_up`.
        """
        tensors, said = self._sent(self._newest(trainer, step) if self.ranks.first else None)
        if tensors is None:
            return None
        trainer.load_weights(tensors)
        return str(said[0])

    def _sent(self, found: tuple[dict[str, Tensor], Any] | None) -> tuple[dict[str, Tensor] | None, Any]:
        """What the first rank has found, on every rank: tensors, and something that JSON can say."""
        if self.ranks.size == 1:
            return found or (None, None)
        said = self.ranks.sent(None if found is None else json.dumps(found[1]).encode())
        data = self.ranks.sent(None if found is None else safetensors.torch.save(found[0]))
        if said is None or data is None:
            return None, None
        return safetensors.torch.load(data), json.loads(said)

    def take_up(self, trainer: Trainer) -> None:
        """Puts a training where its newest whole checkpoint left it; where there is none, it begins anew.

        UserError where the checkpoint was made with another preset or other teachers. UnreadableError where there may be one
        that cannot be read now: what began anew would delete it.
        """
        tensors, said = self._sent(self._newest(trainer) if self.ranks.first else None)
        if tensors is None:
            return
        name, facts = said
        try:
            seconds = float(facts.get("seconds", 0.0))
            if self.origin is not None:
                # The student's epochs, to which the preset's own recipe applies: a teacher has one of its own.
                epochs = 0 if trainer.phase.name == "teacher" else int(facts.get("epoch", 0))
                refuse_another(facts.get("origin"), self.origin, epochs)
            trainer.load_state(tensors, facts)
        except (UserError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # what is whole but makes no sense decides what is raised
            # Half of it may be loaded: this training cannot be used any more.
            if _is_the_machines(error):
                why = one_line(str(error) or type(error).__name__, 300)
                raise UnreadableError(
                    f"checkpoints/{name} cannot be taken up now: {why}; nothing was changed: mmkd resume tries again"
                ) from error
            if self.ranks.first:
                self._set_aside(name, "it is of another training")
            raise UserError(f"checkpoints/{name} does not fit this run and is set aside; resume once more") from error
        self._before = seconds - (time.monotonic() - self._began)
        self._at = _place(trainer)
        self.emit(Log(level="info", message=f"{trainer.phase.label} goes on from checkpoints/{name}"))
        for change in changes_of_machine(facts.get("machine"), machine_of(trainer.parameters[0].device)):
            message = f"checkpoints/{name} was made with {change}: what follows may differ in the last bits"
            self.emit(Log(level="warning", message=message))
        if (before := facts.get("ranks", 1)) != (now := self.ranks.size):
            batch = trainer.recipe.batch_size
            message = (
                f"{trainer.phase.label} goes on with {now * batch} images a step instead of {before * batch}, at the same "
                f"learning rate (processes: {now}, before {before}); mmkd resume --gpus {before} would keep them"
            )
            self.emit(Log(level="warning", message=message))
            self._renumber(trainer)
        elif self.ranks.first and (self.folder / name).is_dir():  # who replaced one by it was killed before that was deleted
            remove_tree(self.folder / f".{name}.old")

    def _newest(self, trainer: Trainer, step: int | None = None) -> tuple[dict[str, Tensor], tuple[str, dict[str, Any]]] | None:
        """The newest whole checkpoint of a training (of at most `step` steps), with its name and facts."""
        with readable(self.folder, "mmkd resume tries again"):
            names = self._names(_key(trainer.phase))
        for name in reversed(names):
            if step is not None and _step(name) > step:
                continue
            try:
                tensors, facts = load_checkpoint(self.folder / name)
            except UnreadableError:
                raise
            except UserError as error:
                self._set_aside(name, str(error))
                continue
            return tensors, (name, facts)
        return None

    def _renumber(self, trainer: Trainer) -> None:
        """Other ranks count other steps: the training is saved by the new count, and what the old one numbered is no newer."""
        own = self.save(trainer)
        if self.ranks.first and own is not None:
            self._delete_all(_key(trainer.phase), but=own)

    def forget(self, phase: Phase) -> None:
        """Deletes the checkpoints of a training that is finished."""
        self.unsaved = ""
        if self.ranks.first:
            self._delete_all(_key(phase))

    def clear_leftovers(self) -> None:
        """Deletes what a process that was killed was still writing."""
        with suppress(OSError):  # they do no harm
            for name in self._listed():
                if _LEFTOVER.fullmatch(name):
                    remove_tree(self.folder / name)

    def _delete_all(self, phase: str, but: str | None = None) -> None:
        """As far as that is possible."""
        with suppress(OSError):
            for name in self._names(phase):
                if name != but:
                    self._delete(name)

    def _names(self, phase: str) -> list[str]:
        """Of one training, the newest last. OSError where they cannot be listed now."""
        found = {m["name"]: int(m["step"]) for m in map(_NAME.fullmatch, self._listed()) if m and m["phase"] == phase}
        return sorted(found, key=found.__getitem__)

    def _listed(self) -> list[str]:
        """Nothing where the folder is a link: what lies elsewhere is not this run's to delete."""
        try:
            return [] if self.folder.is_symlink() else [path.name for path in self.folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _delete(self, name: str) -> None:
        for path in (self.folder / name, self.folder / f".{name}.old"):
            remove_tree(path)

    def _set_aside(self, name: str, why: str) -> None:
        """Under a name that is not looked for."""
        for path in (self.folder / name, self.folder / f".{name}.old"):
            if path.is_dir():
                aside = path.with_name(f"damaged-{name}-{time.time_ns()}")
                try:
                    path.rename(aside)
                except OSError:
                    continue
        self.emit(Log(level="warning", message=f"checkpoints/{name} is set aside: {why}"))


def _place(trainer: Trainer) -> tuple[object, ...]:
    """An epoch's end and the next one's beginning have the same step, but not the same state."""
    return _key(trainer.phase), trainer.epoch, trainer.step_in_epoch


def _not_finite(tensors: dict[str, Tensor]) -> str | None:
    """The first tensor that decides the future and is not finite."""
    own = {name: value for name, value in tensors.items() if not name.startswith("meter.") and value.is_floating_point()}
    if all_finite(own.values()):
        return None
    return next((name for name, value in own.items() if not value.isfinite().all()), None)


def _is_the_machines(error: Exception) -> bool:
    """Whether it is trouble of this machine, which says nothing of a checkpoint: no memory, a device that fails."""
    return isinstance(error, (OSError, MemoryError, torch.AcceleratorError)) or "can't allocate memory" in str(error)


def _step(name: str) -> int:
    return int(name.rpartition("-")[2])


def _key(phase: Phase) -> str:
    return f"{phase.name}-{phase.index}"
