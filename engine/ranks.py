"""The processes that train one student together: the ranks of PyTorch's launcher, or one process alone.

Each rank computes on batches of its own. What is exchanged are averages of detached tensors (gradients, Hessian products,
hyper-gradients), so that every rank takes the same update; DistributedDataParallel carries no second derivatives, and
autograd.grad under it does not synchronise.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from engine.errors import UserError

WAIT = timedelta(days=7)  # for word from rank 0, which may be pausing; a rank that dies is the launcher's to notice


class Ranks:
    """One process alone: all that it asks the others for is its own already."""

    rank = 0
    size = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and talks to people."""
        return self.rank == 0

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The averages over the ranks, the same bits on each; the given tensors stay as they are. Every rank must call it."""
        return list(tensors)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Puts the averages over the ranks into the given tensors."""

    def total(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The sums over the ranks, as `mean`."""
        return list(tensors)

    def everywhere(self, flags: Tensor) -> Tensor:
        """[...] bool: which of the flags are true on every rank."""
        return flags

    def share(self, tensors: Sequence[Tensor]) -> None:
        """Puts rank 0's values into the tensors of every rank."""

    def told(self, values: Sequence[int]) -> list[int]:
        """Rank 0's integers, as many as every rank gives. Waits for rank 0, and not for the device."""
        return list(values)

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """Every rank's tensor of this shape, in the order of the ranks, on every rank."""
        return [tensor]

    def close(self) -> None:
        """Leaves the group."""


ALONE = Ranks()


class ProcessGroup(Ranks):
    """The ranks of a torch.distributed process group: tensors go by `backend`, rank 0's words by gloo."""

    def __init__(self, device: torch.device) -> None:
        """Joins the group that the launcher's environment names (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT)."""
        # Never on an outer interface unless a person names one: the rendezvous knows no password.
        if os.environ.get("MASTER_ADDR") in ("127.0.0.1", "localhost"):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", device_id=device if device.type == "cuda" else None)
        self._words: Any = dist.new_group(backend="gloo", timeout=WAIT)
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """See Ranks: one collective for each data type among the tensors."""
        return [part.div_(self.size) for part in self.total(tensors)]

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """See Ranks."""
        if tensors:
            torch._foreach_copy_(list(tensors), self.mean(tensors))

    @torch.no_grad()
    def total(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """See Ranks."""
        found: list[Tensor] = list(tensors)
        for kind in dict.fromkeys(tensor.dtype for tensor in tensors):
            places = [place for place, tensor in enumerate(tensors) if tensor.dtype == kind]
            flat = torch.cat([tensors[place].reshape(-1) for place in places])
            dist.all_reduce(flat)
            for place, part in zip(places, torch.split(flat, [tensors[place].numel() for place in places]), strict=True):
                found[place] = part.view(tensors[place].shape)
        return found

    @torch.no_grad()
    def everywhere(self, flags: Tensor) -> Tensor:
        """See Ranks."""
        said = flags.to(torch.int32)
        dist.all_reduce(said, dist.ReduceOp.MIN)
        return said.bool()

    @torch.no_grad()
    def share(self, tensors: Sequence[Tensor]) -> None:
        """See Ranks."""
        for tensor in tensors:
            sent = tensor.contiguous()
            dist.broadcast(sent, 0)
            if sent is not tensor:
                tensor.copy_(sent)

    def told(self, values: Sequence[int]) -> list[int]:
        """See Ranks."""
        said = torch.tensor(list(values), dtype=torch.int64)
        dist.broadcast(said, 0, group=self._words)
        return [int(value) for value in said]

    @torch.no_grad()
    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """See Ranks."""
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return parts

    def close(self) -> None:
        """See Ranks."""
        dist.destroy_process_group()


def launched() -> bool:
    """Whether PyTorch's launcher started this process as one of several."""
    try:
        return int(os.environ.get("WORLD_SIZE", "1")) > 1
    except ValueError as error:
        raise UserError(f"WORLD_SIZE is {os.environ['WORLD_SIZE']!r}, no number; start the ranks by torchrun") from error
