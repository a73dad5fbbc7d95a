"""Teacher caches of real digits and teachers of random weights, in this process or in one of its own."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from engine.data import Batch, Images, load_images
from engine.events import Event, Log
from engine.models import Output, build_model
from engine.models.panel import TeacherPanel
from engine.preset import DatasetPart, Preset
from engine.teachers.cache import CachedTeachers, TeacherCache
from support.presets import tiny

IMAGES = 700  # three chunks
CHUNKS = 3


@functools.cache
def digits() -> Images:
    return load_images(DatasetPart(name="digits", train_images=IMAGES), Path("/nowhere"), torch.device("cpu"))


class Counted(TeacherPanel):
    """Counts its passes."""

    passes = 0

    def __call__(self, images: Tensor) -> list[Output]:
        Counted.passes += 1
        return super().__call__(images)


def preset(views: int = 2, *overrides: str) -> Preset:
    return tiny(
        f"teacher_cache.views={views}",
        f"dataset.train_images={IMAGES}",
        "teacher_cache.storage=disk",
        "hardware.precision=fp32",
        *overrides,
    )


def panel(asked: Preset) -> TeacherPanel:
    return TeacherPanel([build_model(t.arch, 1, 10, t.seed) for t in asked.teachers])


def opened(
    root: Path, asked: Preset, emit: Callable[[Event], None] = lambda event: None, teachers: TeacherPanel | None = None
) -> CachedTeachers:
    return CachedTeachers(TeacherCache(asked, digits(), root), teachers or panel(asked), emit)


def filled(
    root: Path,
    asked: Preset,
    poll: Callable[[], None] = lambda: None,
    emit: Callable[[Event], None] = lambda event: None,
    teachers: TeacherPanel | None = None,
) -> CachedTeachers:
    cached = opened(root, asked, emit, teachers)
    try:
        cached.fill(poll)
    except BaseException:
        cached.close()
        raise
    return cached


def batches(asked: Preset, epoch: int = 0, seed: int = 0) -> list[Batch]:
    part = asked.teacher_cache
    assert part is not None
    images = replace(digits(), views=part.views if asked.train.augment else 1)
    return list(images.train.shuffled(64, seed, epoch, images.augmenting(asked.train.augment)))


def files(root: Path, ending: str = ".rows") -> dict[str, bytes]:
    """Their contents by their paths under the root."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.glob(f"*/view-*{ending}"))}


def main(root: str, views: str, kill_at: str) -> None:
    """Fills a cache; kills itself at so many polls. Says each log line, and at last how many passes it took."""
    import engine.models.panel

    engine.models.panel.TeacherPanel = Counted  # type: ignore[misc]
    polls = 0

    def poll() -> None:
        nonlocal polls
        polls += 1
        if polls == int(kill_at):
            os.kill(os.getpid(), signal.SIGKILL)

    def say(event: Event) -> None:
        if isinstance(event, Log):
            print(json.dumps({"log": event.message}), flush=True)

    filled(Path(root), preset(int(views)), poll, say).close()
    print(json.dumps({"passes": Counted.passes}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
