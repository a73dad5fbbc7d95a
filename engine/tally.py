"""Counts the training steps that were left out because they came out not finite: on the device, until somebody asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine.kernels.finite import PARTS
from engine.methods.step import MetaStep, Step


@dataclass(frozen=True, slots=True)
class Left:
    """What was left out since the last look."""

    steps: int
    meta_steps: int
    in_a_row: int  # training steps, up to the newest one; they may have begun before the last look
    parts: tuple[str, ...]  # of PARTS: what was not finite

    @property
    def words(self) -> str:
        """`loss and gradient`"""
        return " and ".join(self.parts)

    @property
    def several(self) -> bool:
        """Whether `words` are said of in the plural."""
        return len(self.parts) > 1 or self.words.endswith("statistics")


class Tally:
    """Of one training. `add` never waits for the device; all else does."""

    def __init__(self, device: torch.device) -> None:
        # Training steps in all, and of those with each of PARTS not finite; meta steps in all; training steps in a row.
        self._counts = torch.zeros(len(PARTS) + 3, dtype=torch.int64, device=device)
        self._seen = [0] * (len(PARTS) + 2)
        self._epoch = 0  # training steps in all, when the epoch began

    @torch.no_grad()
    def add(self, step: Step, meta: MetaStep | None) -> None:
        """Takes in a step."""
        assert step.account is not None, "who takes a step says it"
        self._counts.add_(step.account.counts).mul_(step.account.factors)
        if meta is not None:
            self._counts[-2] += ~meta.finite

    def take(self) -> Left:
        """What came since the last call."""
        *counts, in_a_row = self._counts.tolist()
        new = [count - seen for count, seen in zip(counts, self._seen, strict=True)]
        self._seen = counts
        parts = tuple(part for part, count in zip(PARTS, new[1:-1], strict=True) if count)
        return Left(new[0], new[-1], in_a_row, parts)

    def take_epoch(self) -> int:
        """Training steps that were left out since the epoch began; begins a new one."""
        total = int(self._counts[0])
        found, self._epoch = total - self._epoch, total
        return found

    def in_a_row(self) -> int:
        """Up to the newest step."""
        return int(self._counts[-1])

    def break_row(self) -> None:
        """What was in a row is settled: the next step begins a new one."""
        self._counts[-1] = 0

    def state(self) -> list[int]:
        """For a checkpoint: the epoch's steps so far, and those in a row."""
        return [int(self._counts[0]) - self._epoch, self.in_a_row()]

    def load_state(self, state: Sequence[int]) -> None:
        """Takes up what `state` gave."""
        of_epoch, in_a_row = state
        self._epoch = int(self._counts[0]) - of_epoch
        self._counts[-1] = in_a_row
