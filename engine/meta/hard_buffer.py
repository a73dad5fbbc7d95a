"""The hard buffer: samples that the student got wrong, with their teachers' outputs, for the meta step to learn from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from engine.out_of_memory import TooLargeError, lacks_memory, told


class HardBuffer:
    """Holds `size` samples. A sample is a row in each of several tensors (images, labels, teachers' logits and features).

    Fills with the first samples it is offered; then each misclassified sample replaces another one.
    Nothing here waits for the device.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.count = 0
        self.taken = 0  # places that the last offer filled
        self.rows: list[Tensor] = []

    @property
    def full(self) -> bool:
        """Whether every place is taken."""
        return self.count == self.size

    @torch.no_grad()
    def offer(self, batch: Sequence[Tensor], wrong: Tensor, order: Tensor, finite: Tensor | None = None) -> None:
        """Takes in a batch of B <= size samples: tensors [B, ...], `wrong` [B] bool, `order` a permutation of the places [size].

        Sample i goes to place order[i] if it is wrong, once the buffer is full. Where `finite`, a bool scalar, is false, nothing
        of the batch is kept: zeros take the places that were empty.
        """
        self.taken = 0
        if finite is not None:
            wrong = wrong & finite
        if not self.rows:
            self.rows = self._room_for(batch)
        room = min(self.size - self.count, len(wrong))
        places = order[: len(wrong) - room].to(wrong.device, non_blocking=True)
        for rows, tensor in zip(self.rows, batch, strict=True):
            if room:
                first = tensor[:room]
                rows[self.count : self.count + room] = first if finite is None else torch.where(finite, first, 0)
            if len(places):
                replace = wrong[room:].view(-1, *[1] * (tensor.dim() - 1))
                rows[places] = torch.where(replace, tensor[room:], rows[places])
        self.count += room
        self.taken = room

    def _room_for(self, batch: Sequence[Tensor]) -> list[Tensor]:
        try:
            return [tensor.new_zeros((self.size, *tensor.shape[1:])) for tensor in batch]
        except (RuntimeError, MemoryError) as error:
            if not lacks_memory(error):
                raise
            why = told("the hard buffer", "method.meta.buffer_size", self.size, error)
        raise TooLargeError(why)  # with the error, what there was of it is gone

    def withdraw(self) -> None:
        """Takes the last offer back, so that the same one can be made again: what it replaced will be replaced alike."""
        self.count -= self.taken
        self.taken = 0

    def draw(self, places: Tensor) -> list[Tensor]:
        """The samples in `places` [n], a tensor [n, ...] each."""
        here = places.to(self.rows[0].device, non_blocking=True)
        return [rows[here] for rows in self.rows]
