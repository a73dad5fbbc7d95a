"""Where a training's checkpoints are kept, as the training sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from engine.trainer import Trainer


class Keeper(Protocol):
    """Where a training's checkpoints are kept."""

    def save(self, trainer: Trainer) -> str | None:
        """Saves one; its name, or None where that was not possible."""

    def roll_back(self, trainer: Trainer, step: int) -> str | None:
        """Takes weights and optimisers back to the newest checkpoint of at most `step` steps; its name, or None without any."""


class NoKeeper:
    """Of a training without checkpoints."""

    def save(self, trainer: Trainer) -> str | None:
        """Saves nothing."""
        return None

    def roll_back(self, trainer: Trainer, step: int) -> str | None:
        """Finds nothing."""
        return None
