"""Tensors from a file that anybody may have made: safetensors, or PyTorch's zip format read without running any code."""

from __future__ import annotations

import os
import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import safetensors
import torch
from torch import Tensor, nn

from engine.errors import UserError
from engine.teachers.weights import MOST_TENSORS
from engine.tensor_header import CUT_SHORT, check_header, is_cut_short
from engine.text import one_line
from engine.untrusted import open_picture

MOST_PICKLE = 2 << 20  # bytes of what a zip file says of its tensors: some 100 for each, and for the optimiser's too
# Under which training scripts save the state_dict beside other things. What they report is measured by the averages, where they
# keep some; timm, too, takes those.
_AVERAGES = ("state_dict_ema", "model_ema")
_WRAPPERS = (*_AVERAGES, "model", "state_dict", "net", "model_state_dict", "model_state", "network", "student")


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
    *((_Inert, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")),
    (dict, "collections.defaultdict"),
]
_OWN = frozenset({"torch", "collections", "numpy", "argparse", "pathlib"})  # whose names say nothing of what a file is
# What torch.load takes with weights_only=True, but no state_dict needs: a few bytes of it can fill the memory. So do all that
# end with "Tensor", which are made anew, of any size.
_NEEDLESS = frozenset(
    {
        "bytearray", "TypedStorage", "_rebuild_qtensor", "_rebuild_sparse_tensor", "_rebuild_nested_tensor",
        "_rebuild_wrapper_subclass", "_rebuild_device_tensor_from_numpy", "_rebuild_device_tensor_from_cpu_tensor",
        "_rebuild_meta_tensor_no_storage",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Contents:
    """What is taken of a file."""

    tensors: dict[str, Tensor] = field(repr=False)
    averages: str = ""  # the name of the averages that are taken, where the file has the weights as well
    weights: str = ""  # and the name of those, which are not

    def sentence(self) -> str:
        """Which of the two was taken; nothing where there was no choice."""
        said = f"its averaged weights ({self.averages}) are taken, not those of the last step ({self.weights})"
        return said if self.averages else ""


def read_tensors(path: Path) -> Contents:
    """The state_dict in a file, without what training scripts save beside it. Nothing of it takes up memory before it is used:
    the file is mapped. Whoever keeps a tensor copies it, for the file may change.

    UserError where it is no such file, or holds anything that would have to be run.
    """
    return _read(path, "cpu")


def outline_of(path: Path) -> Contents:
    """As `read_tensors`, but the tensors, on "meta", have only their shapes and types."""
    return _read(path, "meta")


def _read(path: Path, device: str) -> Contents:
    try:
        if not path.is_file():
            what = "is no file" if path.exists() else "does not exist"
            raise UserError(f"{path} {what}; check the path")
        with os.fdopen(open_picture(str(path)), "rb") as file:  # of which nobody makes another one while it is looked at
            content: Any = _safetensors(file, device) if path.suffix == ".safetensors" else _zip(path, file, device)
    except UserError:
        raise
    except Exception as error:  # a file made to harm decides what is raised
        if path.suffix == ".safetensors" and is_cut_short(path):
            raise UserError(f"{path} cannot be read as weights: {CUT_SHORT}") from error
        first = one_line(str(error).splitlines()[0], 300) if str(error).strip() else type(error).__name__
        raise UserError(f"{path} cannot be read as weights: {first}; only tensors are loaded, never code") from error
    averages = weights = ""
    for _ in range(2):  # {"state_dict": {"model": ...}}
        inner = [key for key in _WRAPPERS if isinstance(content, dict) and _is_full(dict.get(content, key))]
        if inner and inner[0] in _AVERAGES:
            averages, weights = inner[0], next((key for key in inner if key not in _AVERAGES), "")
        content = dict.get(content, inner[0]) if inner else content
    if _is_empty(content) or any(_is_empty(dict.get(content, key)) for key in _WRAPPERS if isinstance(content, dict)):
        raise UserError(f"{path} holds no weights: its state_dict is empty; save model.state_dict() of the trained network")
    # The methods of the class, and not those that a pickle may have put in their place.
    if not isinstance(content, dict) or not all(isinstance(name, str) and _is_plain(v) for name, v in dict.items(content)):
        raise UserError(
            f"{path} holds no plain state_dict (names to tensors of numbers){_held(content)}; save model.state_dict() alone"
        )
    if len(content) > MOST_TENSORS:
        raise UserError(f"{path} holds {len(content):,} tensors; no network has more than {MOST_TENSORS:,}")
    tensors = {name: Tensor.detach(value) for name, value in dict.items(content)}
    return Contents(tensors, averages, weights) if weights else Contents(tensors)


def _is_full(value: object) -> bool:
    return isinstance(value, dict) and len(value) > 0


def _is_empty(value: object) -> bool:
    return isinstance(value, dict) and dict.__len__(value) == 0


def _held(content: object) -> str:
    """The first names in a file that is not understood: where in it the weights are, its owner will know."""
    names = [name for name in dict.keys(content) if isinstance(name, str)] if isinstance(content, dict) else []
    return f" but {one_line(', '.join(names[:5]), 200)}{', ...' if len(names) > 5 else ''}" if names else ""


def _safetensors(file: BinaryIO, device: str) -> dict[str, Tensor]:
    """The library checks that every tensor lies within the file."""
    check_header(file, MOST_TENSORS)
    with safetensors.safe_open(_same(file), framework="pt") as mapped:
        found = {name: mapped.get_tensor(name) for name in mapped.keys()}  # noqa: SIM118
    return {name: value.to(device) if device == "meta" else value for name, value in found.items()}


def _zip(path: Path, file: BinaryIO, device: str) -> Any:
    _check_zip(path, file)
    file.seek(0)
    # The same reader as torch.load's: what is looked at is what is loaded.
    needed = list(_needed(torch._C.PyTorchFileReader(file).get_record("data.pkl")))
    for name in needed:
        if (kind := name.rpartition(" ")[2]) in _NEEDLESS or kind.endswith("Tensor"):
            raise UserError(f"{path} holds no plain state_dict: it asks for {one_line(name, 80)}; save model.state_dict() alone")
    with torch.serialization.safe_globals(_HARMLESS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote the file
        try:
            return torch.load(_same(file), map_location=device, weights_only=True, mmap=device != "meta")
        except pickle.UnpicklingError as error:  # PyTorch's own words advise to run the file
            objects = [name.replace(" ", ".") for name in needed if name.split(".")[0].split()[0] not in _OWN]
            what = f" ({one_line(objects[0], 80)})" if objects else ""
            raise UserError(
                f"{path} cannot be read as weights: it holds Python objects{what} beside tensors, as a whole model or trainer's "
                "settings; only tensors are loaded, never code: save model.state_dict() alone"
            ) from error


def _same(file: BinaryIO) -> str:
    """A path to the very file that is open, whatever has become of its name meanwhile."""
    link = f"/proc/self/fd/{file.fileno()}"
    return link if os.path.exists(link) else file.name  # noqa: PTH110


def _needed(pickled: bytes) -> Iterator[str]:
    """The names that a pickle asks for, `module name`."""
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument)


def _check_zip(path: Path, file: BinaryIO) -> None:
    """PyTorch stores records as they are: a compressed one is not its own, and might not fit into memory."""
    if not zipfile.is_zipfile(file):
        file.seek(0)
        raise UserError(f"{path} is neither .safetensors nor PyTorch's zip format{_instead(file.read(64))}")
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
    size = os.fstat(file.fileno()).st_size
    names = {record.filename for record in records}
    plain = all(
        record.compress_type == zipfile.ZIP_STORED
        and record.compress_size == record.file_size
        and not record.flag_bits & 1
        and (record.external_attr >> 28) in (0, 8)  # a file, or nothing is said
        and _inside(record.filename)
        for record in records
    )
    if not plain or len(names) < len(records) or len(records) > MOST_TENSORS or sum(one.file_size for one in records) > size:
        raise UserError(f"{path} is a zip file, but not as PyTorch writes them; save the state_dict again with torch.save")
    if any(one.file_size > MOST_PICKLE for one in records if one.filename.endswith("/data.pkl")):
        raise UserError(f"{path} says more of its tensors than any network's (data.pkl); save model.state_dict() alone")


def _instead(start: bytes) -> str:
    """What a file is by its first bytes, where that is known, and the remedy."""
    if not start:
        return ": it is empty; copy it again"
    if start.startswith(b"PK"):
        return f": {CUT_SHORT}"
    if start.startswith(b"version https://git-lfs"):
        return " but a pointer to it in Git LFS; get the file itself by: git lfs pull"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 32:
        return " by its name, but safetensors by what is in it; end its name in .safetensors"
    if start[:1] == b"\x80":
        return " but an older one; load it where it was made, and save the state_dict with a current torch"
    return "; save the state_dict with a current torch"


def _inside(name: str) -> bool:
    """Whether a record's name stays below the folder that all are in."""
    pure = PurePosixPath(name)
    return not pure.is_absolute() and ".." not in pure.parts and "\\" not in name


def _is_plain(value: object) -> bool:
    """Dense real numbers, all of which are there: no few bytes that are shown as many."""
    return (
        type(value) in (Tensor, nn.Parameter)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type in ("cpu", "meta")
        and not value.is_quantized
        and (value.dtype.is_floating_point or value.dtype in _WHOLE)
        and Tensor.numel(value) * value.itemsize <= Tensor.untyped_storage(value).nbytes()
    )


_WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
