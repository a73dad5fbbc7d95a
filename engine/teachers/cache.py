"""The teacher cache: what teachers say of N fixed views of each training image, computed once: training runs no teacher then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from engine.architectures import identity
from engine.data import Batch, Images
from engine.device import uses_bf16
from engine.events import Event, Log
from engine.models import Classifier, Output
from engine.models.panel import TeacherPanel
from engine.preset import Preset
from engine.teachers.cache_build import Builder
from engine.teachers.cache_files import CacheStore
from engine.teachers.cache_key import images_digest, outputs_key
from engine.teachers.cache_part import Layout, PartFile
from engine.teachers.cache_rows import Rows, rows_of, unknown_in
from engine.teachers.cache_space import Place, find_place, size
from engine.version import version


@dataclass(frozen=True, slots=True)
class Subject:
    """A teacher whose outputs are wanted; without a key where it is not trained yet."""

    label: str
    arch: str
    layouts: tuple[Layout, ...]
    key: str | None


class TeacherCache:
    """The cache that one run asks for: how large it is, where it goes, and then its rows."""

    def __init__(self, preset: Preset, images: Images, root: Path, here: int = 1) -> None:
        """`here`: processes of this machine that each ask for it."""
        part = preset.teacher_cache
        assert part is not None
        self.preset, self.images, self.root, self.here = preset, images, root, here
        self.asked = part.views
        self.views = part.views if preset.train.augment else 1  # without augmentation every view is the image itself
        self.store = CacheStore(root)
        self.bf16 = uses_bf16(preset.hardware, images.train.labels.device)
        self._digest: str | None = None

    def subject(self, index: int, model: Classifier, trained: bool) -> Subject:
        """Teacher `index`, whose architecture `model` has; and whose weights, if it is `trained`."""
        part, facts = self.preset.teachers[index], self.images.facts
        parameter = next(model.parameters())
        model.eval()
        with torch.no_grad():
            output = model(parameter.new_zeros((1, facts.channels, facts.size, facts.size)))
        layouts = [Layout("logits", tuple(output.logits.shape[1:]), "float32")]
        if self.preset.looks_at_features:
            layouts.append(Layout("features", tuple(output.features.shape[1:]), "float16"))
        what = identity(part.arch) + (f"#{part.features}" if part.features else "")
        key = outputs_key(what, model, self.bf16, self._images_digest()) if trained else None
        return Subject(self.preset.teacher_labels[index], part.arch, tuple(layouts), key)

    def place(self, subjects: Sequence[Subject]) -> Place:
        """Where it goes. UserError where it does not fit."""
        total, missing = self.sizes(subjects)
        return find_place(
            self.preset.teacher_cache.storage,  # type: ignore[union-attr]
            total,
            missing,
            self.root,
            self.images.train.labels.device,
            self.views,
            self.here,
        )

    def sizes(self, subjects: Sequence[Subject]) -> tuple[int, int]:
        """Bytes of it all, and bytes that the disk would still have to give."""
        count = len(self.images.train)
        total = missing = 0
        for subject in {subject.key or subject: subject for subject in subjects}.values():
            for layout in subject.layouts:
                for view in range(self.views):
                    total += layout.row * count
                    missing += layout.row * count
                    if subject.key is not None:
                        part = self.part(self.root / subject.key, view, layout)
                        missing -= layout.row * count if part.known() else min(part.taken(), layout.row * count)
        return total, missing

    def part(self, folder: Path, view: int, layout: Layout) -> PartFile:
        """The file of one view."""
        return PartFile(folder, view, layout.kind, layout.shape, len(self.images.train))

    def facts(self, subject: Subject) -> dict[str, Any]:
        """For `mmkd cache list`."""
        return {
            "teacher": subject.label,
            "arch": subject.arch,
            "dataset": self.preset.dataset.name,
            "images": len(self.images.train),
            "augmentation": asdict(self.images.augmentation) if self.preset.train.augment else None,
            "precision": "bf16" if self.bf16 else "fp32",
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": version(),
            "torch": torch.__version__,
        }

    def _images_digest(self) -> str:
        if self._digest is None:
            self._digest = images_digest(self.images.train, self.images.augmentation if self.preset.train.augment else None)
        return self._digest


class CachedTeachers:
    """Answers for the teachers of a run from what was computed before. `fill` before the first batch, `close` after the last."""

    def __init__(self, cache: TeacherCache, panel: TeacherPanel, emit: Callable[[Event], None]) -> None:
        """Reads and computes nothing yet. UserError where the cache does not fit."""
        self.cache, self.panel, self.emit = cache, panel, emit
        self.subjects = [cache.subject(index, model, True) for index, model in enumerate(panel.teachers)]
        self.where = cache.place(self.subjects)
        self.device = cache.images.train.labels.device
        self._rows: list[dict[str, Rows]] = []
        self._open = ExitStack()

    @property
    def channels(self) -> list[int]:
        """Of each teacher's feature map."""
        return self.panel.channels

    def fill(self, poll: Callable[[], None]) -> None:
        """Reads what is there and computes what is not; `poll` is called between chunks and may raise.

        UserError where the cache cannot be written, or where a teacher's outputs are not finite.
        """
        self._announce()
        builder = Builder(self.cache.images, self.cache.views, self.emit, poll, self.cache.preset.train.augment)
        jobs = []
        for number, subject in enumerate(self.subjects):
            assert subject.key is not None
            folder = self.cache.store.use(subject.key, self.cache.facts(subject)) if self.where.files else None
            if folder is not None:
                self._open.callback(folder.close)
            where = self.cache.root / subject.key
            views = range(self.cache.views)
            parts = [[self.cache.part(where, view, layout) for layout in subject.layouts] for view in views]
            jobs.append(builder.job(subject.label, self.panel.alone(number), folder, parts))
        unknown: set[int] = set()
        for job in jobs:
            found = builder.do(job)
            job.teacher.close()
            unknown |= unknown_in(found["logits"])
            self._rows.append({kind: rows_of(views, self.device, self.where.held) for kind, views in found.items()})
        # Images without rows were broken when those were computed: training asks for them no more than then.
        why = "it was broken when the teacher cache was computed (mmkd cache rm has that computed anew)"
        self.cache.images.train.leave_out(sorted(unknown), why)
        if builder.computed:
            passes = f"{builder.computed:,} passes of an image through a teacher"
            self._say("info", f"teacher cache: whole, after {passes} in {builder.busy:.1f} s")
        else:
            self._say("info", "teacher cache: all of it was there; no teacher is asked")
        if not self.cache.preset.asks_heads:
            for model in self.panel.teachers:
                model.to("cpu")  # training has better uses for the device's memory

    def of(self, batch: Batch) -> list[Output]:
        """What each teacher says of a batch of fixed views, float32; features are empty where the method needs none."""
        if batch.indices is None or batch.views is None:
            raise ValueError("the cache answers for fixed views alone")
        outputs = []
        for rows in self._rows:
            logits = rows["logits"].take(batch.views, batch.indices)
            features = logits.new_empty((len(logits), 0, 0, 0))
            if "features" in rows:
                features = rows["features"].take(batch.views, batch.indices)
            outputs.append(Output(logits, features))
        return outputs

    def consider(self, seconds_left: float) -> None:
        """Nothing is gained by knowing."""

    def release(self) -> bool:
        """Nothing that it could do without."""
        return False

    def close(self) -> None:
        """Lets go of files and memory. A second time does nothing."""
        self._rows.clear()
        self._open.close()

    def _announce(self) -> None:
        cache = self.cache
        total, missing = cache.sizes(self.subjects)
        if cache.views < cache.asked:
            why = "train.augment is false, so that every view is the image itself"
            self._say("warning", f"teacher_cache.views is {cache.asked}, but {why}: one view is kept")
        where = f"files in {cache.root}" if self.where.files else "memory alone"
        where += f", held on {self.device}" if self.where.held == "device" else ""
        there = f", of which {size(total - missing)} are there and checked first" if self.where.files and missing < total else ""
        count = len(self.subjects)
        self._say(
            "info",
            f"teacher cache: {cache.views} view{'s' * (cache.views > 1)} of {len(cache.images.train):,} images, "
            f"{count} teacher{'s' * (count > 1)}: {size(total)}{there}; {where}",
        )

    def _say(self, level: str, message: str) -> None:
        self.emit(Log(level=level, message=message))
