"""Checkpoints: a folder of tensors and facts that is either whole or not there, with a manifest that shows any damage.

step-000400/  tensors.safetensors  facts.json  manifest.json (bytes and SHA-256 of the others)
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from engine.errors import UserError
from engine.paths import remove_tree, sync_folder, write_private
from engine.tensor_header import check_header
from engine.text import one_line
from engine.untrusted import MOST, is_there, read_regular, read_whole, readable

_FILES = ("tensors.safetensors", "facts.json")
_REMEDY = "try again; where it stays so, move the checkpoint elsewhere, and the one before it is used"
_MOST_TENSORS = 100_000  # of a network of 10,000: its momentum, regressors and best state too


def save_checkpoint(target: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Writes `target` or replaces it; a crash at any moment leaves the old one or the new one to `load_checkpoint`.

    Of missing folders it makes the last alone: a run's folder that was deleted does not come back.
    """
    target.parent.mkdir(mode=0o700, exist_ok=True)
    aside = target.parent / f".{target.name}.{os.getpid()}.partial"
    remove_tree(aside)
    aside.mkdir(mode=0o700)
    try:
        contents = {
            "tensors.safetensors": safetensors.torch.save({name: _stored(tensor) for name, tensor in tensors.items()}),
            "facts.json": json.dumps(facts, indent=2).encode(),
        }
        manifest = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in contents.items()}
        contents["manifest.json"] = json.dumps(manifest, indent=2).encode()
        for name, data in contents.items():
            write_private(aside / name, data)
        sync_folder(aside)
        _exchange(aside, target)
        sync_folder(target.parent)
    except BaseException:
        remove_tree(aside)
        raise
    remove_tree(_old(target))  # not before a power cut could not bring it back


def _exchange(new: Path, target: Path) -> None:
    """A folder cannot be replaced in one step: between the two renames the old one is found by its other name."""
    old = _old(target)
    if os.path.lexists(target):
        remove_tree(old)
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
    """Tensors on the CPU, and facts. UserError where a file is missing or not the manifest's; UnreadableError where one cannot
    be read now, be it whole or not.
    """
    try:
        with readable(path, _REMEDY):
            if not is_there(path) and is_there(_old(path)):
                path = _old(path)  # the process that was replacing it died between two renames
        with readable(path / "manifest.json", _REMEDY):
            manifest = json.loads(read_regular(path / "manifest.json", MOST))
        contents = {}
        for name in _FILES:
            with readable(path / name, _REMEDY):
                contents[name] = data = read_whole(path / name, manifest[name]["bytes"])
            if hashlib.sha256(data).hexdigest() != manifest[name]["sha256"]:
                raise UserError(f"{path / name} is damaged: its SHA-256 is not the manifest's; use another checkpoint")
        with readable(path, _REMEDY):
            check_header(io.BytesIO(contents["tensors.safetensors"]), _MOST_TENSORS)
            facts = json.loads(contents["facts.json"])
            if not isinstance(facts, dict):
                raise ValueError("facts.json is no JSON object")
            return safetensors.torch.load(contents["tensors.safetensors"]), facts
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        why = one_line(str(error) or type(error).__name__, 300)
        raise UserError(f"{path} is no whole checkpoint ({why}); use another one") from error


def _stored(tensor: Tensor) -> Tensor:
    """A copy of its own, on the CPU: safetensors refuses tensors that share memory."""
    return tensor.detach().to("cpu", copy=True).contiguous()
