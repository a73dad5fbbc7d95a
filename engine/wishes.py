"""Carries out what people ask of a run while it is at work: pause, go on, save, stop."""

from __future__ import annotations

from collections.abc import Callable

from engine.checkpoints_of_run import RunCheckpoints
from engine.control import Control
from engine.errors import StoppedError
from engine.events import Acknowledged, Event
from engine.ranks import ALONE, Ranks
from engine.trainer import Trainer

LOOK_EVERY = 1.0  # seconds between two looks around while paused
_GO_ON, _SAVE, _STOP = range(3)  # what rank 0 has the others do between two steps


class Wishes:
    """Of one run."""

    def __init__(
        self,
        control: Control,
        checkpoints: RunCheckpoints,
        emit: Callable[[Event], None],
        leave: Callable[[Trainer], None],
        look: Callable[[], None],
        ranks: Ranks = ALONE,
    ) -> None:
        """`leave` saves what a run that is stopped leaves beside its checkpoint; `look` is called while paused and may raise.
        Of several ranks, the first one is asked, and all do what it does.
        """
        self.control, self.checkpoints, self.emit, self.leave, self.look = control, checkpoints, emit, leave, look
        self.ranks = ranks

    def in_training(self, trainer: Trainer) -> None:
        """Between two steps. StoppedError where that is what was asked for, with everything saved."""
        if not self.ranks.first:
            self._follow(trainer)
            return
        if self.checkpoints.due(trainer):
            self._save(trainer)
        paused = False
        while (wish := self.control.take(wait=LOOK_EVERY if paused else 0.0)) is not None or paused:
            if wish is None:
                self.look()
                continue
            id, command = wish
            if command == "stop":
                self.emit(Acknowledged(id=id, command=command))
                self._save(trainer)
                self.leave(trainer)
                self.ranks.told([_STOP])
                raise StoppedError
            if command == "checkpoint":
                self._save(trainer)
            paused = command == "pause" or (paused and command != "resume")
            self.emit(Acknowledged(id=id, command=command))
        self.ranks.told([_GO_ON])

    def _save(self, trainer: Trainer) -> None:
        self.ranks.told([_SAVE])
        self.checkpoints.save(trainer)

    def _follow(self, trainer: Trainer) -> None:
        while (word := self.ranks.told([_GO_ON])[0]) != _GO_ON:
            if word == _STOP:
                raise StoppedError
            self.checkpoints.save(trainer)

    def elsewhere(self) -> None:
        """Where no training is in hand: all other wishes wait for one. StoppedError where it was asked for."""
        if self.control.asked_to_stop():
            while (wish := self.control.take()) is not None:
                self.emit(Acknowledged(id=wish[0], command=wish[1]))
            raise StoppedError
