"""Rows of the teacher cache as a training step takes them: from mapped files, from memory or on the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from engine.teachers.cache_part import CHUNK, Bytes, Layout

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Rows(Protocol):
    """One teacher's logits or feature maps of all views."""

    def take(self, views: Tensor, indices: Tensor) -> Tensor:
        """Views [B] of the images `indices` [B], both int64 on the CPU -> [B, ...] float32 on the training device."""


def rows_of(views: Sequence[tuple[Layout, Bytes]], device: torch.device, held: str) -> Rows:
    """From each view's layout and bytes [images, row]."""
    if held == "device":
        return DeviceRows(views, device)
    return HostRows(views, device)


def unknown_in(views: Sequence[tuple[Layout, Bytes]]) -> set[int]:
    """Images that were broken when these rows were computed: see `Builder`."""
    found: set[int] = set()
    for layout, rows in views:
        first = np.ascontiguousarray(rows[:, : DTYPES[layout.dtype].itemsize])
        found |= set(torch.from_numpy(first).view(DTYPES[layout.dtype]).isnan().any(1).nonzero().flatten().tolist())
    return found


class HostRows:
    """Rows in memory or in mapped files: a batch is copied row by row, and then goes to the device."""

    def __init__(self, views: Sequence[tuple[Layout, Bytes]], device: torch.device) -> None:
        self.layouts = [layout for layout, _ in views]
        self.bytes = [rows for _, rows in views]
        self.device = device
        self.alike = len(set(self.layouts)) == 1

    def take(self, views: Tensor, indices: Tensor) -> Tensor:
        """See Rows."""
        places = list(zip(views.tolist(), indices.tolist(), strict=True))
        if not self.alike:  # a view with numbers too large for float16 is kept in bfloat16
            return torch.cat([self._taken([place], self.layouts[place[0]]) for place in places])
        return self._taken(places, self.layouts[0])

    def _taken(self, places: Sequence[tuple[int, int]], layout: Layout) -> Tensor:
        buffer = torch.empty((len(places), layout.row), dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        out = buffer.numpy()
        for row, (view, index) in enumerate(places):
            out[row] = self.bytes[view][index]
        rows = buffer.view(DTYPES[layout.dtype]).view(len(places), *layout.shape)
        return rows.to(self.device, non_blocking=True).float()


class DeviceRows:
    """All rows on the training device."""

    def __init__(self, views: Sequence[tuple[Layout, Bytes]], device: torch.device) -> None:
        layouts = {layout for layout, _ in views}
        dtype = DTYPES[layouts.pop().dtype] if len(layouts) == 1 else torch.float32
        layout, first = views[0]
        self.count = len(first)
        self.rows = torch.empty((len(views) * self.count, *layout.shape), dtype=dtype, device=device)
        for number, (layout, rows) in enumerate(views):
            for start in range(0, self.count, CHUNK):
                own = torch.from_numpy(np.array(rows[start : start + CHUNK])).view(DTYPES[layout.dtype])
                place = number * self.count + start
                self.rows[place : place + len(own)] = own.view(len(own), *layout.shape).to(device)

    def take(self, views: Tensor, indices: Tensor) -> Tensor:
        """See Rows."""
        places = (views * self.count + indices).to(self.rows.device, non_blocking=True)
        return self.rows[places].float()
