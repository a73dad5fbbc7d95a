"""Whether a run may go on with another preset than it began with: where no past step would differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from engine.errors import UserError
from engine.overrides import flattened
from engine.preset import TrainPart
from engine.same_training import CHANGES_NOTHING, among
from engine.text import one_line

# What may change between two processes of one run. `train.epochs` may where the epochs that are done had the same learning rates.
FREE = (*CHANGES_NOTHING, "non_finite")
MOST = 3  # differences that are told


def refuse_changes(before: object, now: Mapping[str, Any], epoch: int, what: str) -> None:
    """UserError where one preset was asked for `before` and another one is `now`, after `epoch` epochs of the student.

    Both as plain data (`model_dump(mode="json")`). `what` begins the message: whose preset differs from whose.
    """
    changes = list(_changes(flattened(before), flattened(now), epoch))
    if changes:
        some = "; ".join(changes[:MOST]) + ("; and more" if len(changes) > MOST else "")
        raise UserError(
            f"{what}: {some}. Put that back, or start a new run; only "
            f"{', '.join(FREE)} may change, and train.epochs while the learning rates of the past stay"
        )


def _changes(before: dict[str, Any], now: dict[str, Any], epoch: int) -> Iterator[str]:
    for key in dict.fromkeys((*before, *now)):
        if among(key, FREE) or (key in before and before[key] == now.get(key) and key in now):
            continue
        if key not in before and not any(key.startswith(f"{known}.") for known in before):
            continue  # a setting that an older release did not have
        if key == "train.epochs" and _same_past(before, now, epoch):
            continue
        yield f"{key} was {_shown(before.get(key))} and is {_shown(now.get(key))}"


def _same_past(before: dict[str, Any], now: dict[str, Any], epoch: int) -> bool:
    if now["train.epochs"] <= epoch:
        return False
    old, new = _recipe(before), _recipe(now)
    return all(old.lr_at(done) == new.lr_at(done) for done in range(epoch + 1))


def _recipe(flat: dict[str, Any]) -> TrainPart:
    fields = {key.removeprefix("train."): value for key, value in flat.items() if key.startswith("train.")}
    stones = fields.get("milestones")
    known = {name: value for name, value in fields.items() if name in TrainPart.model_fields}
    return TrainPart(**known | {"milestones": None if stones is None else tuple(stones)})


def _shown(value: object) -> str:
    return one_line("null" if value is None else str(value), 60)
