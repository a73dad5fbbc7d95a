"""What a sweep file says: presets, the settings that vary, seeds, and when a run is not worth going on with. Frozen data."""

from __future__ import annotations

import math
from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from engine.preset import Part, Seed, setting

Metric = Literal["best_accuracy", "measured_accuracy", "measured_loss"]
DRAWS = ("uniform", "log_uniform", "int_uniform", "choice")  # how a random setting is given


class HalvingPart(Part):
    """Successive halving: at each rung only the best 1/eta go on (ASHA; Li et al. 2020, arXiv 1810.05934, algorithm 2)."""

    metric: Metric = setting("best_accuracy", "what runs are compared by at a rung, as their events have it")
    eta: int = setting(3, "of so many runs that reach a rung, one goes on; the next rung is so many times as far", ge=2, le=100)
    min_epochs: int = setting(..., "the first rung: no run is stopped before it", "epochs", ge=1, le=100_000)

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """Epochs after which a run of `epochs` epochs is looked at: min_epochs * eta^k, those before its end."""
        found, rung = [], self.min_epochs
        while rung < epochs:
            found.append(rung)
            rung *= self.eta
        return tuple(found)

    def score(self, value: float | None) -> float:
        """A metric's value so that more is better; what is not a number is the worst."""
        if value is None or not math.isfinite(value):
            return -math.inf
        return -value if self.metric == "measured_loss" else value


class SweepForm(Part):
    """A sweep: presets x settings x seeds."""

    name: str = setting(..., "a short name; the folder of its runs", pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    description: str = setting("", "one line about it", max_length=500)
    presets: tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...] = setting(
        ..., "shipped presets by name, or files relative to the sweep's folder", min_length=1, max_length=64
    )
    settings: dict[str, Any] = setting(
        {}, "what varies, by dotted key: a list (a grid), or one of uniform, log_uniform, int_uniform, choice (drawn)"
    )
    trials: int | None = setting(None, "how often the drawn settings are drawn", ge=1, le=10_000)
    draw_seed: Seed = setting(0, "which values are drawn")
    seeds: tuple[Seed, ...] = setting(
        (0,), "seeds of the student: one run of each combination for each", min_length=1, max_length=1000
    )
    overrides: dict[str, Any] = setting({}, "what differs from the presets in all runs")
    halving: HalvingPart | None = setting(None, "stop what is not worth going on with; null: every run comes to its end")

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for key, values in (("seeds", self.seeds), ("presets", self.presets)):
            twice = [value for value, count in Counter(values).items() if count > 1]
            if twice:
                raise PydanticCustomError(key, "'{value}' stands there twice; remove one", {"value": twice[0]})
        drawn = any(isinstance(varied, dict) for varied in self.settings.values())
        if drawn and self.trials is None:
            raise PydanticCustomError("trials", "some settings are drawn at random; say how often by, for example, trials: 10")
        if self.trials is not None and not drawn:
            raise PydanticCustomError("trials", "no setting is drawn at random; remove trials, or give {{uniform: [0.1, 0.5]}}")
        return self
