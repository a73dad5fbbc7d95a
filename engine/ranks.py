"""The processes that train one student together: the ranks of PyTorch's launcher, or one process alone.

Each rank computes on batches of its own. What is exchanged are averages of detached tensors (gradients, Hessian products,
hyper-gradients), so that every rank takes the same update; DistributedDataParallel carries no second derivatives, and
autograd.grad under it does not synchronise.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from engine.errors import TrainingError, UserError
from engine.launched import Launched
from engine.out_of_memory import lacks_memory
from engine.text import one_line

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

WAIT = timedelta(days=7)  # for word from rank 0, which may be pausing; a rank that dies is noticed at once
STUCK = timedelta(hours=1)  # a GPU's share of a sum, which every rank brings in its next steps: NCCL may not see that one died


class LostRankError(Exception):
    """Another rank has gone, or cannot be reached: nothing that the ranks do together can go on."""


class Ranks:
    """One process alone: all that it asks the others for is its own already."""

    rank = 0
    size = 1
    local: int | None = None  # which of this machine's ranks it is, where there are several in all
    here = 1  # ranks of this machine
    given_up = False  # all of them, since one failed at what each does for itself

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and talks to people."""
        return self.rank == 0

    def use(self, device: torch.device) -> None:
        """Says where the tensors will lie that are exchanged. Every rank must call it, before any of them."""

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

    def told(self, values: Sequence[int]) -> list[int]:
        """Rank 0's integers, as many as every rank gives. Waits for rank 0, and not for the device."""
        return list(values)

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """Every rank's tensor of this shape, in the order of the ranks, on every rank."""
        return [tensor]

    def sent(self, data: bytes | None) -> bytes | None:
        """Rank 0's bytes or None, on every rank; the others' are not looked at."""
        return data

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Around what each rank does for itself, without asking the others. Where one of them fails all do, by the error of the
        first that did: a UserError where it is the user's mistake, else a TrainingError. Every rank must come to it.
        """
        yield

    def close(self) -> None:
        """Leaves the group."""


ALONE = Ranks()


class ProcessGroup(Ranks):
    """The ranks of a torch.distributed process group: tensors on a GPU go by NCCL, all else by gloo."""

    def __init__(self, local: int = 0, here: int = 1) -> None:
        """Joins the group that the launcher's environment names (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT)."""
        with _together():
            dist.init_process_group("gloo", timeout=WAIT)
        self.rank, self.size, self.local, self.here = dist.get_rank(), dist.get_world_size(), local, here
        self._tensors: Any = None  # the group that tensors go by; the one that words go by, unless another is made

    def use(self, device: torch.device) -> None:
        """See Ranks."""
        if device.type == "cuda":
            torch.cuda.set_device(device)
            with _together():
                self._tensors = dist.new_group(backend="nccl", timeout=STUCK)

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """See Ranks: one collective for each data type among the tensors."""
        return [part.div_(self.size) for part in self.total(tensors)]

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """See Ranks."""
        if tensors:
            torch._foreach_copy_(list(tensors), self.mean(tensors))

    @cached_property
    def mesh(self) -> DeviceMesh:
        """All ranks in a row, by the connections that they have already: what FSDP asks for."""
        from torch.distributed.device_mesh import DeviceMesh

        world = dist.group.WORLD
        assert world is not None  # it was joined
        return DeviceMesh.from_group(self._tensors or world, "cuda" if self._tensors else "cpu")

    @torch.no_grad()
    def total(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """See Ranks."""
        found: list[Tensor] = list(tensors)
        for kind in dict.fromkeys(tensor.dtype for tensor in tensors):
            places = [place for place, tensor in enumerate(tensors) if tensor.dtype == kind]
            flat = torch.cat([tensors[place].reshape(-1) for place in places])
            with _together():
                dist.all_reduce(flat, group=self._tensors)
            for place, part in zip(places, torch.split(flat, [tensors[place].numel() for place in places]), strict=True):
                found[place] = part.view(tensors[place].shape)
        return found

    @torch.no_grad()
    def everywhere(self, flags: Tensor) -> Tensor:
        """See Ranks."""
        said = flags.to(torch.int32)
        with _together():
            dist.all_reduce(said, dist.ReduceOp.MIN, group=self._tensors)
        return said.bool()

    def told(self, values: Sequence[int], source: int = 0) -> list[int]:
        """See Ranks; of rank `source`."""
        said = torch.tensor(list(values), dtype=torch.int64)
        with _together():
            dist.broadcast(said, source)
        return [int(value) for value in said]

    @torch.no_grad()
    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """See Ranks."""
        parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.size)]
        with _together():
            dist.all_gather(parts, tensor.contiguous(), group=self._tensors)
        return parts

    def sent(self, data: bytes | None, source: int = 0) -> bytes | None:
        """See Ranks; of rank `source`."""
        (size,) = self.told([-1 if data is None else len(data)], source)
        if size < 0:
            return None
        content = torch.empty(size, dtype=torch.uint8)
        if self.rank == source and data:
            content = torch.frombuffer(bytearray(data), dtype=torch.uint8)  # a tensor is of bytes that may be changed
        if size:
            with _together():
                dist.broadcast(content, source)
        return content.numpy().tobytes()

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """See Ranks."""
        own: Exception | None = None
        try:
            yield
        except Exception as error:
            own = error
        first = torch.tensor(self.size if own is None else self.rank)
        with _together():
            dist.all_reduce(first, dist.ReduceOp.MIN)
        if (failed := int(first)) == self.size:
            return
        self.given_up = True
        said = self.sent(None if own is None else _as_told(own), failed)
        if own is not None and failed == self.rank:
            raise own
        mistake, message = json.loads(said or b"")
        raise (UserError if mistake else TrainingError)(f"process {failed + 1} of {self.size}: {message}") from own

    def close(self) -> None:
        """See Ranks."""
        self.told([0])  # nobody leaves while another still listens
        dist.destroy_process_group()


def join(place: Launched) -> Ranks:
    """The group that the launcher has made of several processes; LostRankError where one of them is gone already."""
    # Never on an outer interface unless a person names one: the rendezvous knows no password.
    if place.here == place.size:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    return ProcessGroup(place.local, place.here) if place.size > 1 else ALONE


def leave(code: int) -> NoReturn:
    """Ends a process that has left its group. Not as the interpreter does: while C++ takes its objects down, a thread of gloo's
    that is still there aborts the process now and then, and the launcher takes it for a lost one.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # it may be full, closed, or not there
            stream.flush()
    os._exit(code)


def _as_told(error: Exception) -> bytes:
    """Whether it is the user's to mend, and the sentence."""
    said = str(error) if isinstance(error, (UserError, OSError)) else f"{type(error).__name__}: {error}"
    return json.dumps([isinstance(error, UserError), said]).encode()


@contextmanager
def _together() -> Iterator[None]:
    """What all ranks do. LostRankError where one of them has gone."""
    try:
        yield
    except RuntimeError as error:  # what PyTorch makes of a closed connection
        if lacks_memory(error):
            raise
        raise LostRankError(f"another process of this run was lost: {one_line(str(error), 300)}") from error
