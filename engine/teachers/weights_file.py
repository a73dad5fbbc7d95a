"""Tensors from a file that anybody may have made: safetensors, or PyTorch's zip format read without running any code."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from engine.errors import UserError
from engine.text import one_line

_MOST_RECORDS = 10_000  # in a zip file; a large network has some hundreds
# Under which training scripts save the state_dict beside other things.
_WRAPPERS = ("model", "state_dict", "net", "model_state_dict", "model_state", "network", "student")


class _Inert:
    """Stands in for what training scripts save beside the weights and nobody needs here: made without running anything."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _nothing(*args: object) -> None:
    """In place of the call that makes a NumPy number (a best accuracy, say) from its bytes."""


# Names in a pickle -> what is made for them. Nothing of NumPy or argparse itself is ever called.
_HARMLESS: list[Any] = [
    (_nothing, "numpy._core.multiarray.scalar"),
    (_nothing, "numpy.core.multiarray.scalar"),
    (_Inert, "numpy.dtype"),
    *((_Inert, f"numpy.dtypes.{kind}DType") for kind in ("Float16", "Float32", "Float64", "Int32", "Int64", "Bool")),
    (_Inert, "argparse.Namespace"),
    (dict, "collections.defaultdict"),
]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The state_dict in a file, without the names that DataParallel and torch.compile put before all others.

    UserError where it is no such file, or holds anything that would have to be run.
    """
    try:
        if not path.is_file():
            what = "is no file" if path.exists() else "does not exist"
            raise UserError(f"{path} {what}; check the teacher's checkpoint (it is looked for in the preset's folder)")
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load(path.read_bytes())
        else:
            _check_zip(path)
            with torch.serialization.safe_globals(_HARMLESS):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as error:  # a file made to harm decides what is raised
        first = one_line(str(error).splitlines()[0], 300) if str(error).strip() else type(error).__name__
        raise UserError(f"{path} cannot be read as weights: {first}; only tensors are loaded, never code") from error
    for _ in range(2):  # {"state_dict": {"model": ...}}
        inner = [content[key] for key in _WRAPPERS if isinstance(content, dict) and isinstance(content.get(key), dict)]
        content = inner[0] if inner else content
    if not isinstance(content, dict) or not all(isinstance(name, str) and _is_plain(value) for name, value in content.items()):
        raise UserError(f"{path} holds no plain state_dict (names to tensors of numbers); save model.state_dict() alone")
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
