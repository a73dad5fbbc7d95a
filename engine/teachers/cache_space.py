"""Whether a teacher cache fits: on the disk, in memory, on the device; found out before anything is computed."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.control_group import memory
from engine.errors import UserError

RESERVE = 1 << 30  # bytes of the disk that are left to others
COMFORTABLE = 0.5  # of the free memory: what is taken without being asked for
MOST = 0.8  # of the free memory: what may be taken where it was asked for


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows are kept, and where they are read from in training."""

    files: bool  # kept in files; else in memory alone
    held: str  # "device", "memory" or "files": mapped, which took no longer a batch than memory (benchmarks/teacher_cache.py)


def find_place(storage: str, total: int, missing: int, root: Path, device: torch.device, views: int, here: int = 1) -> Place:
    """The place for `total` bytes, of which `missing` are not in files yet. UserError where there is none.

    Files are shared by the `here` processes that train together on this machine; what is in memory each of them keeps.
    """
    disk = free_disk(root) - RESERVE
    had = memory()
    free = had.total if had.free is None else had.free
    on_device = _free_on(device) * COMFORTABLE >= total
    each = f" ({size(total)} for each of {here} processes)" if here > 1 else ""
    fewer = f"ask for fewer views (teacher_cache.views is {views})" if views > 1 else "turn teacher_cache off"
    if storage == "memory":
        if total * here > free * MOST:
            raise UserError(
                f"the teacher cache needs {size(total * here)} of memory{each}, and {size(free)} are free; {fewer}, "
                "or set teacher_cache.storage to disk"
            )
        return Place(False, "device" if on_device else "memory")
    if missing > disk:
        if storage == "auto" and total * here <= free * COMFORTABLE:
            return Place(False, "device" if on_device else "memory")
        raise UserError(
            f"the teacher cache needs {size(missing)} more in {root}, and {size(max(disk, 0))} are free there "
            f"(beside the {size(RESERVE)} that are left to others); {fewer}, or name a folder on another disk with "
            "MMKD_TEACHER_CACHE"
        )
    return Place(True, "device" if on_device and storage == "auto" else "files")


def size(count: float) -> str:
    """1234567890 -> `1.23 GB (1,234,567,890 bytes)`; people read the first, and compare by the second."""
    exact = f"{count:,.0f} bytes"
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.2f} {unit} ({exact})"
    return exact


def free_disk(root: Path) -> int:
    """Bytes that this user may still write where `root` is, or will be."""
    folder = root
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(f"{root} cannot be looked at: {error.strerror}; name another folder with MMKD_TEACHER_CACHE") from error


def _free_on(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
