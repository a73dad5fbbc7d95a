"""What PyTorch's launcher (torchrun) says of this process: which of several it is, and how often they were started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import UserError


@dataclass(frozen=True, slots=True)
class Launched:
    """One of `size` processes, number `local` of `here` on its machine; `restarts`: how often all of them were started again."""

    rank: int
    size: int
    local: int
    here: int
    restarts: int


def launched(environment: Mapping[str, str] = os.environ) -> Launched | None:
    """None where no launcher started this process. UserError where what it says is no number."""
    if "TORCHELASTIC_RUN_ID" not in environment:
        return None

    def number(name: str) -> int:
        try:
            return int(environment.get(name, "0"))
        except ValueError as error:
            raise UserError(f"{name} is {environment[name]!r}, no number; start the processes by torchrun") from error

    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
    return Launched(*map(number, names))
