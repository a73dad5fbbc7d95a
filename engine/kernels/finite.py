"""Whether a step came out finite, and taking tensors back where it did not: decided on the device, so that nobody waits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

PARTS = ("loss", "gradient", "normalisation statistics")  # what `finite_parts` looks at, in its order


def all_finite(tensors: Iterable[Tensor], device: torch.device | None = None) -> Tensor:
    """A bool scalar: whether the L2 norms of all tensors add up to a finite number in float32: an overflow counts as infinite.

    On `device`; if none is given, where the first one lies. They need not all lie there: Adam counts its steps on the CPU.
    """
    numbers = [tensor for tensor in tensors if tensor.is_floating_point()]
    if not numbers:
        return torch.ones((), dtype=torch.bool, device=device)
    device = device or numbers[0].device
    norms = [norm.to(device, torch.float32) for norm in torch._foreach_norm(numbers)]
    while len(norms) > 1:  # as a sum: to stack them, a compiler copies each by a kernel of its own
        half = len(norms) // 2
        norms = [*torch._foreach_add(norms[:half], norms[half : 2 * half]), *norms[2 * half :]]
    return norms[0].isfinite()


def finite_parts(loss: Tensor, gradients: Sequence[Tensor], buffers: Sequence[Tensor]) -> Tensor:
    """[3] bool, of PARTS: a training step's loss, its gradients, and the learner's buffers after it."""
    return torch.stack([loss.isfinite().all(), *(all_finite(part, loss.device) for part in (gradients, buffers))])


class _Pack:
    """Copies of tensors of one dtype, side by side in one piece of memory: a few kernels serve all of them."""

    def __init__(self, places: list[int], tensors: Sequence[Tensor], selects: bool) -> None:
        self.places = places
        own = [tensors[place] for place in places]
        self.before, self.kept = _side_by_side(own)
        self.after, self.made = _side_by_side(own) if selects else (self.before, self.kept)

    def of(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        return [tensors[place] for place in self.places]


class Guard:
    """Keeps copies of some tensors while a step changes them, and takes them back where the step came out not finite.

    `selects`: the choice is made by the device, for one on which reading a number means waiting; else by the host.
    """

    def __init__(self, selects: bool) -> None:
        self._selects = selects
        self._packs: list[_Pack] = []
        self._shapes: list[tuple[torch.Size, torch.dtype, torch.device]] = []

    @torch.no_grad()
    def keep(self, tensors: Sequence[Tensor]) -> None:
        """Before the step."""
        shapes = [(tensor.shape, tensor.dtype, tensor.device) for tensor in tensors]
        if shapes != self._shapes:
            kinds = dict.fromkeys(tensor.dtype for tensor in tensors)
            places = [[place for place, tensor in enumerate(tensors) if tensor.dtype is kind] for kind in kinds]
            self._packs, self._shapes = [_Pack(own, tensors, self._selects) for own in places], shapes
        for pack in self._packs:
            torch._foreach_copy_(pack.kept, pack.of(tensors))

    @torch.no_grad()
    def settle(self, tensors: Sequence[Tensor], finite: Tensor) -> None:
        """After it: the same tensors, or what took their places, stay as they are where `finite`, a bool scalar, is true."""
        if not self._selects:
            if not finite:
                self.take_back(tensors)
            return
        for pack in self._packs:
            own = pack.of(tensors)
            torch._foreach_copy_(pack.made, own)
            torch.where(finite, pack.after, pack.before, out=pack.after)
            torch._foreach_copy_(own, pack.made)

    @torch.no_grad()
    def take_back(self, tensors: Sequence[Tensor]) -> None:
        """Whatever became of the step."""
        for pack in self._packs:
            torch._foreach_copy_(pack.of(tensors), pack.kept)


def _side_by_side(tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """A flat tensor with room for all of these, and a view of it for each, laid out as that is."""
    flat = tensors[0].new_empty(sum(tensor.numel() for tensor in tensors))
    pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
    return flat, [_like(tensor, piece) for tensor, piece in zip(tensors, pieces, strict=True)]


def _like(tensor: Tensor, piece: Tensor) -> Tensor:
    return piece.as_strided(tensor.shape, tensor.stride(), piece.storage_offset()) if _dense(tensor) else piece.view(tensor.shape)


def _dense(tensor: Tensor) -> bool:
    """Whether its strides fill memory without a gap, as those of contiguous and channels-last tensors do."""
    return tensor.is_contiguous() or (tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
