"""Frozen teachers kept in CPU memory: each is moved to the device when its turn comes, the next one while it is at work.

The device holds two slots of the largest teacher's size, whatever the number of teachers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.kernels import Arithmetic
from engine.models.frozen import folded, narrowed
from engine.models.functional import call_with
from engine.models.heads import head_alone
from engine.models.interface import Classifier, Output
from engine.models.panel import Head, TeacherPanel

SLOTS = 2
_ALIGNED = 256  # bytes: what an allocation of CUDA's own is aligned to


@dataclass(frozen=True, slots=True)
class Packed:
    """A network's tensors in one piece of CPU memory, and the network without them."""

    model: Classifier  # on the meta device
    data: Tensor  # [bytes], uint8
    places: dict[str, tuple[int, int, torch.dtype, torch.Size, tuple[int, ...]]]  # first byte, bytes, type, shape, strides

    @classmethod
    def of(cls, model: Classifier, pinned: bool) -> Packed:
        """Takes the tensors out of `model`; `pinned` memory is copied to a GPU without waiting for it."""
        found = dict(model.named_parameters()) | dict(model.named_buffers())
        places, end = {}, 0
        for name, tensor in found.items():
            reach = sum((count - 1) * step for count, step in zip(tensor.shape, tensor.stride(), strict=True)) + 1
            size = reach * tensor.element_size() if tensor.numel() else 0
            places[name] = (end, size, tensor.dtype, tensor.shape, tensor.stride())
            end += -(-size // _ALIGNED) * _ALIGNED
        packed = cls(model, torch.empty(end, dtype=torch.uint8, pin_memory=pinned), places)
        for name, own in packed.tensors(packed.data).items():
            own.copy_(found[name].detach())
        model.to("meta")
        return packed

    def tensors(self, data: Tensor) -> dict[str, Tensor]:
        """Views of a copy of `data`."""
        return {
            name: data[first : first + size].view(dtype).as_strided(shape, strides)
            if size
            else torch.empty(shape, dtype=dtype, device=data.device)
            for name, (first, size, dtype, shape, strides) in self.places.items()
        }


class Slots:
    """Room for two teachers on a device. What is copied in is ready where `fetch` returns it, in the order of the stream."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.rooms = [torch.empty(size, dtype=torch.uint8, device=device) for _ in range(SLOTS)]
        self.holds: list[int | None] = [None] * SLOTS
        self.copies = 0  # so far
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._ready: list[torch.cuda.Event | None] = [None] * SLOTS
        self._free: list[torch.cuda.Event | None] = [None] * SLOTS
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(device))  # the room may have been another tensor's till now
            for room in self.rooms:
                room.record_stream(self._stream)  # nor is it another one's before the last copy is through

    def prefetch(self, number: int, data: Tensor, keep: int | None = None) -> None:
        """Begins to copy teacher `number` in; not into the room of teacher `keep`."""
        if number in self.holds:
            return
        room = next(place for place, held in enumerate(self.holds) if held is None or held != keep)
        self.holds[room] = number
        self.copies += 1
        target = self.rooms[room][: len(data)]
        if self._stream is None:
            target.copy_(data)
            return
        with torch.cuda.stream(self._stream):
            if (free := self._free[room]) is not None:
                self._stream.wait_event(free)
            target.copy_(data, non_blocking=True)
            self._ready[room] = self._stream.record_event()

    def fetch(self, number: int, data: Tensor) -> Tensor:
        """Teacher `number` on the device, [bytes] uint8; until another one is put in its place."""
        self.prefetch(number, data)
        room = self.holds.index(number)
        if (ready := self._ready[room]) is not None:
            torch.cuda.current_stream(self.rooms[room].device).wait_event(ready)
        return self.rooms[room][: len(data)]

    def done(self, number: int) -> None:
        """All that reads teacher `number` is in the stream by now."""
        room = self.holds.index(number)
        if self._stream is not None:
            self._free[room] = torch.cuda.current_stream(self.rooms[room].device).record_event()


class TurnPanel(TeacherPanel):
    """As TeacherPanel, to the bit; but the teachers live in CPU memory. They are asked in turn, and back again in the next
    batch, so that the last two need not be copied anew.
    """

    compilable = False

    def __init__(
        self,
        teachers: Sequence[Classifier],
        device: torch.device,
        bf16: bool = False,
        tell: Callable[[str, str], None] | None = None,
    ) -> None:
        """Moves the teachers to CPU memory. `tell` is given (level, message) as by TeacherPanel."""
        super().__init__([teacher.to("cpu") for teacher in teachers], bf16, tell)
        self.device = device
        self._packed: list[Packed] = []
        self._slots: Slots | None = None
        self._back = False

    @property
    def copies(self) -> int:
        """How often a teacher was copied to the device, so far."""
        return self._slots.copies if self._slots else 0

    def classifiers(self) -> list[Head]:
        """See TeacherPanel. Of each teacher only what they need lies on the device."""
        return [head_alone(teacher, self.device) for teacher in self.teachers]

    def alone(self, number: int) -> TeacherPanel:
        """See TeacherPanel."""
        return TurnPanel([self.teachers[number]], self.device, self.bf16, self._tell)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[Output]:
        """See TeacherPanel."""
        packed = self._prepared(images)
        if not packed:
            return []
        if self._slots is None:
            self._slots = Slots(max(len(one.data) for one in packed), self.device)
        slots = self._slots
        laid_out = images.contiguous(memory_format=torch.channels_last)
        order = list(range(len(packed)))[:: -1 if self._back else 1]
        self._back = not self._back
        outputs: dict[int, Output] = {}
        for number, following in zip(order, [*order[1:], None], strict=True):
            tensors = packed[number].tensors(slots.fetch(number, packed[number].data))
            if following is not None:
                slots.prefetch(following, packed[following].data, keep=number)
            with Arithmetic(bf16=self.narrow[number]):
                output: Output = call_with(packed[number].model, tensors, (laid_out,))
            if self.narrow[number]:
                output = Output(output.logits.float(), output.features.float())
            outputs[number] = Output(*(_own(part, slots.rooms) for part in output))
            slots.done(number)
        return [outputs[number] for number in range(len(packed))]

    def close(self) -> None:
        """Frees the device's memory; a later batch takes it again."""
        self._slots = None

    def _prepared(self, images: Tensor) -> list[Packed]:
        """Each teacher made quick on the device, as TeacherPanel does it, one after the other."""
        if len(self._packed) < len(self.teachers):
            self.narrow = []
            packed = []
            for number, teacher in enumerate(self.teachers):
                quick = folded(teacher.to(self.device), images)
                teacher.to("cpu")
                self.narrow.append(self.bf16 and self._takes_bfloat16(number, quick, images))
                quick = narrowed(quick) if self.narrow[-1] else quick.to(memory_format=torch.channels_last)
                packed.append(Packed.of(quick, pinned=self.device.type == "cuda"))
            self._packed = packed
        return self._packed


def _own(part: Tensor, rooms: Sequence[Tensor]) -> Tensor:
    """The same numbers in memory of their own, where a network hands out a part of itself."""
    mine = part.untyped_storage().data_ptr()
    return part.clone() if any(room.untyped_storage().data_ptr() == mine for room in rooms) else part
