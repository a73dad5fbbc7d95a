"""Checkpoints: a folder of tensors and facts that is either whole or not there, with a manifest that shows any damage.

step-000400/  tensors.safetensors  facts.json  manifest.json (bytes and SHA-256 of the others)
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from engine.errors import UserError
from engine.paths import sync_folder

_FILES = ("tensors.safetensors", "facts.json")


def save_checkpoint(target: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Writes `target` or replaces it; a crash at any moment leaves the old one or the new one to `load_checkpoint`."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    aside = target.parent / f".{target.name}.{os.getpid()}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700)
    try:
        contents = {
            "tensors.safetensors": safetensors.torch.save({name: _stored(tensor) for name, tensor in tensors.items()}),
            "facts.json": json.dumps(facts, indent=2).encode(),
        }
        manifest = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in contents.items()}
        contents["manifest.json"] = json.dumps(manifest, indent=2).encode()
        for name, data in contents.items():
            with (aside / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        sync_folder(aside)
        _exchange(aside, target)
        sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(_old(target), ignore_errors=True)  # not before a power cut could not bring it back


def _exchange(new: Path, target: Path) -> None:
    """A folder cannot be replaced in one step: between the two renames the old one is found by its other name."""
    old = _old(target)
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise


def _old(target: Path) -> Path:
    return target.parent / f".{target.name}.old"


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors on the CPU, and facts. UserError where a file is missing or differs from the manifest."""
    if not path.exists() and _old(path).is_dir():
        path = _old(path)  # the process that was replacing it died between two renames
    try:
        manifest = json.loads((path / "manifest.json").read_bytes())
        contents = {name: (path / name).read_bytes() for name in _FILES}
        for name, data in contents.items():
            if hashlib.sha256(data).hexdigest() != manifest[name]["sha256"]:
                raise UserError(f"{path / name} is damaged: its SHA-256 is not the manifest's; use another checkpoint")
        return safetensors.torch.load(contents["tensors.safetensors"]), json.loads(contents["facts.json"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise UserError(f"{path} is no whole checkpoint ({error}); use another one") from error


def _stored(tensor: Tensor) -> Tensor:
    """A copy of its own, on the CPU: safetensors refuses tensors that share memory."""
    return tensor.detach().to("cpu", copy=True).contiguous()
