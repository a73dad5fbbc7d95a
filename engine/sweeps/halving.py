"""Which runs are worth going on with: ASHA's rule, as a function of the scores that runs had at the rungs they reached.

Li, Jamieson, Rostamizadeh et al. 2020, arXiv 1810.05934, algorithm 2: of the n runs that have reached a rung, the best
floor(n / eta) go on. That is asked anew whenever a run reaches a rung: one that was held there goes on once it is among them.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

_Run = TypeVar("_Run", bound=Hashable)
Scores = Mapping[_Run, Sequence[float]]  # by run, in the plan's order: one at each rung it reached; more is better


def worthy(scores: Scores[_Run], eta: int) -> frozenset[_Run]:
    """The runs that may go on: those that have reached no rung, and those among the best floor(n / eta) at their highest one.

    Of equal scores, those of runs that come first in the plan are the better ones.
    """
    found = {run for run, reached in scores.items() if not reached}
    for rung in range(max((len(reached) for reached in scores.values()), default=0)):
        there = [run for run, reached in scores.items() if len(reached) > rung]
        best = sorted(there, key=lambda run: -scores[run][rung])[: len(there) // eta]
        found.update(run for run in best if len(scores[run]) == rung + 1)
    return frozenset(found)


def by_promise(scores: Scores[_Run]) -> list[_Run]:
    """The runs that have reached a rung, those on the highest rung first, and on each the best first."""
    return sorted((run for run, reached in scores.items() if reached), key=lambda run: (-len(scores[run]), -scores[run][-1]))
