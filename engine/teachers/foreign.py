"""Weights from files: safetensors, or PyTorch's zip format read without running any code."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from engine.errors import UserError
from engine.models import Classifier
from engine.text import one_line

_MOST_RECORDS = 10_000  # in a zip file; a large network has some hundreds
_WRAPPERS = ("model", "state_dict")  # under which training scripts save the state_dict beside other things


def load_weights(model: Classifier, path: Path, arch: str) -> None:
    """Fills `model` from a state_dict in `path`. UserError where the file cannot be read or does not fit."""
    state = _read(path)
    own = model.state_dict()
    optional = {name for name in own if name.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - state.keys() - optional)
    unknown = sorted(state.keys() - own.keys())
    shapes = [
        f"{name} is {tuple(state[name].shape)}, not {tuple(value.shape)}"
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    if missing or unknown or shapes:
        parts = [
            f"{len(names)} {what} ({one_line(', '.join(names[:3]), 200)}{', ...' if len(names) > 3 else ''})"
            for names, what in ((missing, "tensors missing"), (unknown, "tensors too many"), (shapes, "shapes that differ"))
            if names
        ]
        raise UserError(f"{path} does not fit {arch} on this data set: {'; '.join(parts)}; give the architecture that it is of")
    fitting = {name: value.to(own[name].dtype) for name, value in state.items()}
    if any(not torch.isfinite(value).all() for value in fitting.values() if value.is_floating_point()):
        raise UserError(f"{path} holds numbers that are not finite; it cannot be used as a teacher")
    model.load_state_dict(fitting, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if not path.is_file():
            what = "is no file" if path.exists() else "does not exist"
            raise UserError(f"{path} {what}; check the teacher's checkpoint (it is looked for in the preset's folder)")
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load(path.read_bytes())
        else:
            _check_zip(path)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # a file made to harm decides what is raised
        first = one_line(str(error).splitlines()[0], 300) if str(error).strip() else type(error).__name__
        raise UserError(f"{path} cannot be read as weights: {first}; only tensors are loaded, never code") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(name, str) and _is_plain(value) for name, value in content.items()):
        raise UserError(f"{path} holds no plain state_dict (names to tensors of numbers); save model.state_dict() alone")
    # DataParallel puts its own name before every other.
    if content and all(name.startswith("module.") for name in content):
        return {name.removeprefix("module."): value for name, value in content.items()}
    return content


def _check_zip(path: Path) -> None:
    """PyTorch stores records as they are: a compressed one is not its own, and might not fit into memory."""
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is neither .safetensors nor PyTorch's zip format; save the state_dict with a current torch")
    with zipfile.ZipFile(path) as archive:
        records = archive.infolist()
    packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
    if packed or len(records) > _MOST_RECORDS or sum(record.file_size for record in records) > path.stat().st_size:
        raise UserError(f"{path} is a zip file, but not as PyTorch writes them; save the state_dict again with torch.save")


def _is_plain(value: object) -> bool:
    """Dense real numbers."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and not value.is_complex()
    )
