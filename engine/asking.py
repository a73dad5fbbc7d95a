"""A training's batches, each with what the teachers say of it.

On a GPU the teachers have a stream of their own, and are asked of the next batch while a step on this one is being computed.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from engine.data import Batch
from engine.methods import Teachers
from engine.models import Output

Taught = tuple[Batch, list[Output]]


def taught(batches: Iterator[Batch], teachers: Teachers) -> Iterator[Taught]:
    """Each batch and the teachers' outputs, which are there in the order of the current stream."""
    if not teachers.channels or not teachers.asked_ahead:
        return ((batch, teachers.of(batch)) for batch in batches)
    return _ahead(batches, teachers)


def _ahead(batches: Iterator[Batch], teachers: Teachers) -> Iterator[Taught]:
    pending: tuple[Batch, list[Output], torch.cuda.Event] | None = None
    stream: torch.cuda.Stream | None = None
    for batch in batches:
        here = torch.cuda.current_stream(batch.images.device)
        stream = stream or torch.cuda.Stream(batch.images.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(here)  # the batch is there then; the step on the one before it has yet to be given to the device
        with torch.cuda.stream(stream):
            # The next answers may take the place of these while a step still reads them.
            said = [Output(logits.clone(), features.clone()) for logits, features in teachers.of(batch)]
            ready = stream.record_event()
        batch.images.record_stream(stream)
        for tensor in (part for output in said for part in output):
            tensor.record_stream(here)
        if pending is not None:
            here.wait_event(pending[2])
            yield pending[0], pending[1]
        pending = batch, said, ready
    if pending is not None:
        torch.cuda.current_stream(pending[0].images.device).wait_event(pending[2])
        yield pending[0], pending[1]
