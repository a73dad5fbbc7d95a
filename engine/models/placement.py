"""Where a run's frozen teachers live: on the device, in CPU memory until their turn comes, or shared among the ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from engine.errors import UserError
from engine.models.interface import Classifier
from engine.models.panel import TeacherPanel
from engine.models.turns import TurnPanel
from engine.ranks import ALONE, Ranks


def placed(
    teachers: Sequence[Classifier],
    device: torch.device,
    where: str,
    bf16: bool,
    tell: Callable[[str, str], None],
    ranks: Ranks = ALONE,
) -> TeacherPanel:
    """A panel of the teachers, placed as `hardware.teachers` says; in turn or not, it answers the same to the bit.

    UserError for sharded teachers where `ranks` are not several.
    """
    if where == "sharded":
        from engine.models.sharded import ShardedPanel  # torch.distributed.fsdp takes a second to import

        return ShardedPanel(teachers, device, ranks, bf16, tell)
    if where == "in_turn":
        return TurnPanel(teachers, device, bf16, tell)
    return TeacherPanel([teacher.to(device) for teacher in teachers], bf16, tell)


def refuse_to_share_alone(where: str, ranks: Ranks) -> None:
    """UserError where teachers are to be shared among processes, and there are no others."""
    if where == "sharded" and ranks.size == 1:
        raise UserError(
            "hardware.teachers: sharded shares each teacher among the processes of a run, and there is one alone; "
            "start several (mmkd run --gpus N), or use hardware.teachers: in_turn"
        )
