"""What a checkpoint was made with, and whether a run may go on from it with something else: where no past step would differ."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine import plugins
from engine.errors import UserError
from engine.preset import Preset, TrainPart
from engine.text import one_line
from engine.version import version, versions

# What may change between two processes of one run. `train.epochs` may where the epochs that are done had the same learning rates.
FREE = (
    "name",
    "description",
    "hardware.device",
    "hardware.threads",
    "hardware.workers",
    "hardware.compile",
    "teacher_cache.storage",
    "evaluate.batch_size",
    "non_finite.skip",
    "non_finite.rollbacks",
)
MOST = 3  # differences that are told


def origin(preset: Preset, teachers: Sequence[tuple[str, str, nn.Module]] = ()) -> dict[str, Any]:
    """As plain data. `teachers`: label, source ("store", "trained", "checkpoint") and network of each, once they are known."""
    known = [{"label": label, "source": source, "sha256": digest(model)} for label, source, model in teachers]
    return {"preset": preset.model_dump(mode="json"), "teachers": known}


def made_with(preset: Preset, device: torch.device, data_root: Path) -> dict[str, Any]:
    """What a run's `meta.json` says of this process: releases, machine, places."""
    return {
        "version": version(),
        "versions": versions(),
        "seed": preset.seed,
        "device": str(device),
        "argv": sys.argv,
        "host": platform.node(),
        "pid": os.getpid(),
        "threads": torch.get_num_threads(),
        "data_root": str(data_root.absolute()),
        "plugins": [{"path": str(plugin.path), "sha256": plugin.sha256} for plugin in plugins.loaded()],
    }


def digest(model: nn.Module) -> str:
    """SHA-256 over a network's tensors and their names."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def refuse_another(before: object, now: Mapping[str, Any], epoch: int) -> None:
    """UserError where a checkpoint after `epoch` epochs was made with another preset or other teachers than the run has `now`.

    What an older release wrote says nothing of it, and is taken.
    """
    if not isinstance(before, dict):
        return
    changes = list(_changes(_flat(before.get("preset")), _flat(now["preset"]), epoch))
    if changes:
        some = "; ".join(changes[:MOST]) + ("; and more" if len(changes) > MOST else "")
        raise UserError(
            f"preset.yaml is not that of the checkpoint: {some}. Put it back, or start a new run; only "
            f"{', '.join(FREE)} may change, and train.epochs while the learning rates of the past stay"
        )
    past = {one["label"]: one for one in before.get("teachers", ()) if isinstance(one, dict) and "label" in one}
    for teacher in now["teachers"]:
        known = past.get(teacher["label"])
        if known is not None and known.get("sha256") != teacher["sha256"]:
            raise UserError(
                f"teacher {teacher['label']} ({teacher['source']}) has other weights than when the checkpoint was made; "
                "put them back (MMKD_TEACHERS, or its checkpoint file), or start a new run"
            )


def _changes(before: dict[str, Any], now: dict[str, Any], epoch: int) -> Iterator[str]:
    for key in dict.fromkeys((*before, *now)):
        if key in FREE or (key in before and before[key] == now.get(key) and key in now):
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


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """{"train": {"epochs": 3}} -> {"train.epochs": 3}; lists of mappings by their numbers."""
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        pairs = enumerate(value)  # type: ignore[assignment]
    else:
        return {key: value}
    found: dict[str, Any] = {}
    for name, inner in pairs:
        found |= _flat(inner, f"{key}.{name}" if key else str(name))
    return found


def _shown(value: object) -> str:
    return one_line("null" if value is None else str(value), 60)
