"""What a checkpoint was made with, and whether a run may go on from it with something else."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine import plugins
from engine.device import gpu_uuid
from engine.errors import UserError
from engine.preset import Preset
from engine.preset_changes import refuse_changes
from engine.text import one_line
from engine.version import version, versions


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
        "gpu": gpu_uuid(device),
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
    refuse_changes(before.get("preset"), now["preset"], epoch, "preset.yaml is not that of the checkpoint")
    past = {one["label"]: one for one in before.get("teachers", ()) if isinstance(one, dict) and "label" in one}
    for teacher in now["teachers"]:
        known = past.get(teacher["label"])
        if known is not None and known.get("sha256") != teacher["sha256"]:
            raise UserError(
                f"teacher {teacher['label']} ({teacher['source']}) has other weights than when the checkpoint was made; "
                "put them back (MMKD_TEACHERS, or its checkpoint file), or start a new run"
            )


def machine_of(device: torch.device) -> dict[str, Any]:
    """What decides the last bits of a computation, beside the preset."""
    if device.type == "cuda":
        return {"torch": torch.__version__, "device": torch.cuda.get_device_name(device)}
    name = f"{device.type} ({torch.backends.cpu.get_cpu_capability()})"
    return {"torch": torch.__version__, "device": name, "threads": torch.get_num_threads()}


def changes_of_machine(before: object, now: Mapping[str, Any]) -> list[str]:
    """In words, what of `machine_of` was other than it is now; nothing where the checkpoint does not say."""
    known = before if isinstance(before, dict) else {}
    return [
        f"{key} {one_line(str(known[key]), 40)} and goes on with {value}"
        for key, value in now.items()
        if key in known and known[key] != value
    ]
