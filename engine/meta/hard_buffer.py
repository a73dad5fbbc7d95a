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
        self._rows: list[Tensor] = []  # one more than has a place: what is not taken in goes there, and nothing reads it

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
        if not self._rows:
            self._rows = self._room_for(batch)
        room = min(self.size - self.count, len(wrong))
        places = order[: len(wrong) - room].to(wrong.device, non_blocking=True)
        places = torch.where(wrong[room:], places, self.size)
        for rows, tensor in zip(self._rows, batch, strict=True):
            if room:
                first = tensor[:room]
                rows[self.count : self.count + room] = first if finite is None else torch.where(finite, first, 0)
            if len(places):
                rows.index_copy_(0, places, tensor[room:])
        self.count += room
        self.taken = room

    def _room_for(self, batch: Sequence[Tensor]) -> list[Tensor]:
        try:
            return [tensor.new_zeros((self.size + 1, *tensor.shape[1:])) for tensor in batch]
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
        here = places.to(self._rows[0].device, non_blocking=True)
        return [rows[here] for rows in self._rows]

    @property
    def rows(self) -> list[Tensor]:
        """What lies in the places, a tensor [size, ...] each; none before the first offer."""
        return [rows[: self.size] for rows in self._rows]

    def load_state(self, rows: Sequence[Tensor], count: int, device: torch.device) -> None:
        """Takes up what `rows` gave, of which `count` places are taken. ValueError where it is of another size."""
        if any(one.shape[:1] != (self.size,) for one in rows) or not 0 <= count <= (self.size if rows else 0):
            raise ValueError("the hard buffer is not of this size")
        self._rows = [torch.cat([one, torch.zeros_like(one[:1])]).to(device) for one in rows]
        self.count = count
