"""Trackers that people use already: a run's events shown in TensorBoard, MLflow, Weights & Biases or trackio, as a mirror alone.

Nothing in the engine depends on one, and none is imported before a preset switches it on.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from engine.errors import UserError

# The module that each needs, and the extra that brings it.
NEEDS = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb", "trackio": "trackio"}


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a tracker is told of the run that it is opened for."""

    folder: Path  # the run's
    name: str
    config: Mapping[str, object]  # the preset, flat: {"train.epochs": 240, ...}
    id: str | None  # under which an earlier process of this run was known to it


class Tracker(Protocol):
    """One that is open. Whatever it raises ends its use, and nothing else; so it may wait for a network."""

    id: str | None  # to go on under, after a resume; None where it has none

    def log(self, scalars: Mapping[str, float], step: int, t: float) -> None:
        """Finite numbers by name, after `step` training steps of their phase, `t` seconds since the epoch."""

    def finish(self, summary: Mapping[str, float], state: str) -> None:
        """The result's numbers by name; `state`: done, stopped or failed. Called last."""


Opener = Callable[[Beginning], Tracker]


def refuse_missing(names: Iterable[str]) -> None:
    """UserError where a tracker's package is not installed."""
    for name in names:
        try:
            there = importlib.util.find_spec(NEEDS[name]) is not None
        except (ImportError, ValueError):
            there = False
        if not there:
            raise UserError(f"trackers: {name} is not installed; pip install 'mmkd-tui[{name}]' brings it, or leave it out")
