"""Carries out what people ask of a run while it is at work: pause, go on, save, stop."""

from __future__ import annotations

from collections.abc import Callable

from engine.checkpoints_of_run import RunCheckpoints
from engine.control import Control
from engine.errors import StoppedError
from engine.events import Acknowledged, Event
from engine.trainer import Trainer

LOOK_EVERY = 1.0  # seconds between two looks around while paused


class Wishes:
    """Of one run."""

    def __init__(
        self,
        control: Control,
        checkpoints: RunCheckpoints,
        emit: Callable[[Event], None],
        leave: Callable[[Trainer], None],
        look: Callable[[], None],
    ) -> None:
        """`leave` saves what a run that is stopped leaves beside its checkpoint; `look` is called while paused and may raise."""
        self.control, self.checkpoints, self.emit, self.leave, self.look = control, checkpoints, emit, leave, look

    def in_training(self, trainer: Trainer) -> None:
        """Between two steps. StoppedError where that is what was asked for, with everything saved."""
        self.checkpoints.save_if_due(trainer)
        paused = False
        while (wish := self.control.take(wait=LOOK_EVERY if paused else 0.0)) is not None or paused:
            if wish is None:
                self.look()
                continue
            id, command = wish
            if command == "stop":
                self.emit(Acknowledged(id=id, command=command))
                self.checkpoints.save(trainer)
                self.leave(trainer)
                raise StoppedError
            if command == "checkpoint":
                self.checkpoints.save(trainer)
            paused = command == "pause" or (paused and command != "resume")
            self.emit(Acknowledged(id=id, command=command))

    def elsewhere(self) -> None:
        """Where no training is in hand: all other wishes wait for one. StoppedError where it was asked for."""
        if self.control.asked_to_stop():
            while (wish := self.control.take()) is not None:
                self.emit(Acknowledged(id=wish[0], command=wish[1]))
            raise StoppedError
