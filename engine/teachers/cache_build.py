"""Computes what the teacher cache lacks: a teacher, a view and a chunk of images at a time; stopped anywhere, it can go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engine.data import Batch, Images
from engine.data.augment import FixedViews
from engine.errors import UserError
from engine.events import CacheProgress, Event, Log
from engine.models.panel import TeacherPanel
from engine.teachers.cache_files import CacheFolder
from engine.teachers.cache_part import CHUNK, Bytes, DamagedError, FileWriter, Layout, MemoryWriter, PartFile
from engine.teachers.cache_rows import DTYPES

TELL_EVERY = 0.5  # seconds
LOOK_EVERY = 0.2  # seconds between two looks whether another process has finished
Found = tuple[Layout, Bytes]
Writer = FileWriter | MemoryWriter


class TooLargeError(Exception):
    """A number that float16 cannot hold."""


@dataclass(frozen=True, slots=True)
class Job:
    """One teacher's outputs: a part for each view and kind. Without a folder, memory alone."""

    label: str
    teacher: TeacherPanel
    folder: CacheFolder | None
    parts: list[list[PartFile]]  # [view][kind]


class Builder:
    """Does jobs, and tells how far all of them are."""

    def __init__(
        self,
        images: Images,
        views: int,
        emit: Callable[[Event], None],
        poll: Callable[[], None],
        augment: bool,
    ) -> None:
        self.split, self.emit, self.poll = images.train, emit, poll
        self.fixed = FixedViews(images.augmentation if augment else None, views)
        self.total = self.done = self.computed = 0  # passes of an image through a teacher
        self.busy = 0.0  # seconds in which `computed` passes were done
        self._told: float | None = None

    def job(self, label: str, teacher: TeacherPanel, folder: CacheFolder | None, parts: list[list[PartFile]]) -> Job:
        """A teacher's job; what it is to compute counts as work ahead from now on."""
        missing = [view for view in parts if folder is None or not all(part.known() for part in view)]
        self.total += len(missing) * len(self.split)
        return Job(label, teacher, folder, parts)

    def do(self, job: Job) -> dict[str, list[Found]]:
        """Every view's rows, of each kind."""
        found: dict[str, list[Found]] = {part.kind: [] for part in job.parts[0]}
        try:
            for view in range(len(job.parts)):
                for part, rows in zip(job.parts[view], self._view(job, view), strict=True):
                    found[part.kind].append(rows)
        except OSError as error:
            where = job.folder.path if job.folder is not None else "memory"
            raise UserError(
                f"the teacher cache cannot be written to {where}: {error.strerror or error}; "
                "make room there, or name another folder with MMKD_TEACHER_CACHE"
            ) from error
        finally:
            if job.folder is not None:
                job.folder.stop_building()
        return found

    def _view(self, job: Job, view: int) -> list[Found]:
        parts = job.parts[view]
        if job.folder is None:
            return self._computed(job, view, parts)
        expected = all(part.known() for part in parts)
        found = {part.kind: self._read(part) for part in parts}
        if any(isinstance(rows, DamagedError) for rows in found.values()):
            self._wait_for_turn(job, job.folder)
            # Another process may have finished it by now.
            found = {part.kind: self._read(part) for part in parts}
            missing = [part for part in parts if isinstance(found[part.kind], DamagedError)]
            for part in missing:
                if part.known() is not None:
                    aside = part.set_aside()
                    self._say(f"{part.rows} is damaged: {found[part.kind]}; kept as {aside.name} and computed anew")
            if expected and missing:
                self.total += len(self.split)  # nobody knew of this work
            if missing:
                found |= dict(zip((part.kind for part in missing), self._computed(job, view, missing), strict=True))
            elif not expected:
                self.done += len(self.split)
        return [rows for rows in found.values() if not isinstance(rows, DamagedError)]

    def _read(self, part: PartFile) -> Found | DamagedError:
        try:
            return part.read(self.poll)
        except DamagedError as error:
            return error

    def _wait_for_turn(self, job: Job, folder: CacheFolder) -> None:
        """Until no other process computes in this folder."""
        waited = False
        while not folder.try_to_build():
            if not waited:
                self._say(f"another run is computing the outputs of {job.label}; waiting for it", "info")
                waited = True
            self.poll()
            time.sleep(LOOK_EVERY)

    def _computed(self, job: Job, view: int, parts: Sequence[PartFile]) -> list[Found]:
        """Computes parts of one view, in files or in memory. A part whose numbers are too large is begun again in bfloat16."""
        layouts = {part.kind: _first_layout(part, job.folder is not None) for part in parts}
        start = self.done
        while True:
            writers: list[Writer] = []
            try:
                for part in parts:
                    layout = layouts[part.kind]
                    writers.append(
                        MemoryWriter(part.images, layout) if job.folder is None else FileWriter(part, layout, self.poll)
                    )
                self._fill(job, view, writers)
                for writer in writers:
                    writer.finish()
                break
            except TooLargeError:
                self._say(
                    f"the feature maps of {job.label} have numbers above 65,504, too large for float16: they are kept in bfloat16"
                )
                layouts["features"] = replace(layouts["features"], dtype="bfloat16")
                self.done = start
            finally:
                for writer in writers:
                    writer.close()
        return [self._written(part, writer) for part, writer in zip(parts, writers, strict=True)]

    def _written(self, part: PartFile, writer: Writer) -> Found:
        if isinstance(writer, MemoryWriter):
            return writer.layout, writer.rows
        found = self._read(part)
        if isinstance(found, DamagedError):
            raise UserError(f"{part.rows} was written, but cannot be read back: {found}; the disk may be failing")
        return found

    def _fill(self, job: Job, view: int, writers: Sequence[Writer]) -> None:
        first = min(writer.done for writer in writers)
        self.done += min(first * CHUNK, len(self.split))
        self._tell(job, view)
        chunks = torch.split(torch.arange(len(self.split)), CHUNK)
        batches = self.split.viewed(chunks[first:], self.fixed, view)
        for chunk, indices in enumerate(chunks[first:], start=first):
            self.poll()
            began = time.monotonic()
            rows = self._rows_of(job, indices, next(batches), [writer.layout for writer in writers])
            for writer, block in zip(writers, rows, strict=True):
                if writer.done == chunk:
                    writer.write(block)
            self.busy += time.monotonic() - began
            self.done += len(rows[0])
            self.computed += len(rows[0])
            self._tell(job, view)

    def _rows_of(self, job: Job, indices: Tensor, batch: Batch, layouts: Sequence[Layout]) -> list[Bytes]:
        """What the teacher says of one chunk of images, as bytes in each layout. Rows of broken images are no numbers: what is
        said of those shown in their place would be taken for theirs by a run that can read them.
        """
        (output,) = job.teacher(batch.images)
        assert batch.indices is not None
        unknown = (batch.indices != indices).nonzero().flatten()
        blocks = []
        for layout in layouts:
            values = output.logits if layout.kind == "logits" else output.features
            if not torch.isfinite(values).all():
                raise UserError(
                    f"{job.label}: its {layout.kind} on the training images {int(indices[0])} to {int(indices[-1])} "
                    "are not all finite; it can be no teacher"
                )
            if len(unknown):
                values = values.index_fill(0, unknown.to(values.device), math.nan)
            blocks.append(_as_bytes(values, layout))
        return blocks

    def _tell(self, job: Job, view: int) -> None:
        """At the beginning, at the end, and now and then."""
        now = time.monotonic()
        if self._told is not None and now - self._told < TELL_EVERY and self.done < self.total:
            return
        self._told = now
        self.emit(
            CacheProgress(
                label=job.label,
                view=view,
                views=self.fixed.count,
                done=min(self.done, self.total),
                total=self.total,
                images_per_second=self.computed / max(self.busy, 1e-9),
            )
        )

    def _say(self, message: str, level: str = "warning") -> None:
        self.emit(Log(level=level, message=message))


def _first_layout(part: PartFile, files: bool) -> Layout:
    """As it was begun; else as small as is exact enough."""
    begun = part.begun() if files else None
    return begun or Layout(part.kind, part.shape, "float32" if part.kind == "logits" else "float16")


def _as_bytes(values: Tensor, layout: Layout) -> Bytes:
    """[n, ...] float32 -> [n, row]. TooLargeError where the layout cannot hold a number."""
    stored = values.to(DTYPES[layout.dtype])
    if layout.dtype == "float16" and torch.isinf(stored).any():
        raise TooLargeError
    rows: Bytes = stored.to("cpu").contiguous().view(len(values), -1).view(torch.uint8).numpy()
    return rows
