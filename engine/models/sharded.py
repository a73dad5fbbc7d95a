"""Frozen teachers whose parameters are shared among the ranks (FSDP2): each is put together a piece at a time as it is asked.

A rank's device holds its share of every teacher, and of the one that is asked a piece or two. Zhao et al., arXiv 2304.11277.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard

from engine.errors import UserError
from engine.kernels import Arithmetic
from engine.models.frozen import folded, round_weights
from engine.models.heads import head_alone
from engine.models.interface import Classifier, Output
from engine.models.panel import Head, TeacherPanel
from engine.ranks import ProcessGroup, Ranks

PIECE = 4_000_000  # numbers that are put together at once, or what one module has of its own
_SEEN = 2  # images by which it is seen how a teacher is put together
_TOLERANCE = 1e-3  # of the outputs' difference by their norm, as where a teacher is folded


class ShardedPanel(TeacherPanel):
    """As TeacherPanel, to rounding. Every rank must be asked as often as every other, each with images of its own."""

    compilable = False

    def __init__(
        self,
        teachers: Sequence[Classifier],
        device: torch.device,
        ranks: Ranks,
        bf16: bool = False,
        tell: Callable[[str, str], None] | None = None,
    ) -> None:
        """Moves the teachers to CPU memory; they are shared when the first batch comes. UserError for one rank alone."""
        if not isinstance(ranks, ProcessGroup):
            raise UserError("hardware.teachers: sharded needs several processes, and there is one alone; use in_turn")
        super().__init__([teacher.to("cpu") for teacher in teachers], bf16, tell)
        self.device, self.ranks = device, ranks

    def classifiers(self) -> list[Head]:
        """See TeacherPanel. Heads are whole on every rank: only their own part of each teacher is."""
        return [head_alone(teacher, self.device) for teacher in self.teachers]

    def alone(self, number: int) -> TeacherPanel:
        """See TeacherPanel."""
        return ShardedPanel([self.teachers[number]], self.device, self.ranks, self.bf16, self._tell)

    @torch.no_grad()
    def quick(self, images: Tensor) -> list[Classifier]:
        """The shared teachers; UserError where one cannot be taken apart."""
        if len(self._quick) < len(self.teachers):
            few = images[:_SEEN].to("cpu")
            # In CPU memory, since the device may not hold a whole one. Whether one takes bfloat16 must not differ by rank.
            copies = [folded(teacher, few) for teacher in self.teachers]
            narrow = [self.bf16 and self._takes_bfloat16(number, quick, few) for number, quick in enumerate(copies)]
            agreed = self.ranks.everywhere(torch.tensor(narrow, dtype=torch.bool, device=self.device))
            self.narrow = [bool(flag) for flag in agreed]
            self._quick = [self._shared(number, copy, few) for number, copy in enumerate(copies)]
        return self._quick

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[Output]:
        """See TeacherPanel."""
        outputs = []
        for teacher, narrow in zip(self.quick(images), self.narrow, strict=True):
            with Arithmetic(bf16=narrow):
                output: Output = teacher(images.contiguous())
            # A piece's memory is taken back after it was asked.
            outputs.append(Output(*(part.float() if narrow else part for part in output)))
        return outputs

    def _shared(self, number: int, model: Classifier, few: Tensor) -> Classifier:
        expected, called = _asked(model, few)
        if self.narrow[number]:
            round_weights(model)
        for parameter in model.parameters():
            parameter.data = parameter.data.contiguous()  # FSDP2 takes no other layout
        for module in [*_pieces(model, called), model]:
            fully_shard(module, mesh=self.ranks.mesh, reshard_after_forward=True)  # moves no more than this piece to the device
        model.to(self.device)  # what belongs to no piece: buffers
        with Arithmetic(bf16=self.narrow[number]):
            found: Output = model(few.to(self.device))
        limit = 0.1 if self.narrow[number] else _TOLERANCE
        pairs = zip((part.float().to("cpu") for part in found), expected, strict=True)
        same = all(bool((one - other).norm() <= limit * other.norm() + 1e-6) for one, other in pairs)
        if not bool(self.ranks.everywhere(torch.tensor([same], device=self.device))):
            raise UserError(f"teacher {number} says otherwise when it is shared among ranks; use hardware.teachers: in_turn")
        return model


def _asked(model: Classifier, images: Tensor) -> tuple[Output, set[nn.Module]]:
    """What it says, and which of its modules are called: others' parameters are read by the module around them."""
    called: set[nn.Module] = set()

    def note(module: nn.Module, _: Any) -> None:
        called.add(module)

    handles = [module.register_forward_pre_hook(note) for module in model.modules()]
    try:
        output: Output = model(images)
    finally:
        for handle in handles:
            handle.remove()
    return output, called


def _pieces(model: nn.Module, called: set[nn.Module]) -> list[nn.Module]:
    """Modules that are put together one after the other, inner ones first; what none of them has is the model's own."""
    found: list[nn.Module] = []

    def collect(module: nn.Module) -> int:
        """How many numbers of it are in no piece yet."""
        count = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        count += sum(collect(child) for child in module.children())
        if module is not model and module in called and count >= PIECE:
            found.append(module)
            return 0
        return count

    collect(model)
    return found


def shares(panel: ShardedPanel) -> Iterator[tuple[int, int]]:
    """Of each teacher that is shared: numbers that this rank holds, and all."""
    for model in panel._quick:
        assert isinstance(model, FSDPModule)
        own = [parameter.to_local().numel() for parameter in model.parameters()]  # type: ignore[attr-defined]
        yield sum(own), sum(parameter.numel() for parameter in model.parameters())
