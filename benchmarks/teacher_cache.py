"""What a batch's teacher outputs cost: asked of three VGG-13, and taken from the cache, mapped and in memory.

    python benchmarks/teacher_cache.py [FOLDER]

64 images of 32x32; feature maps of 512x4x4, as a cache for CIFAR would hold. The files (0.3 GB) are made in FOLDER, or in
a temporary one, and were just written when they are read: they are in the system's page cache.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from engine.models import build_model
from engine.models.panel import TeacherPanel
from engine.teachers.cache_part import CHUNK, FileWriter, Layout, PartFile
from engine.teachers.cache_rows import Rows, rows_of

TEACHERS, VIEWS, IMAGES, BATCH, TIMES = 3, 2, 3072, 64, 50
LAYOUTS = (Layout("logits", (100,), "float32"), Layout("features", (512, 4, 4), "float16"))


def parts(folder: Path, layout: Layout) -> list[PartFile]:
    """Files of noise, one a view."""
    found = []
    noise = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for view in range(VIEWS):
        part = PartFile(folder, view, layout.kind, layout.shape, IMAGES)
        writer = FileWriter(part, layout, lambda: None)
        for start in range(0, IMAGES, CHUNK):
            rows = min(CHUNK, IMAGES - start)
            writer.write(
                np.abs(noise.standard_normal((rows, *layout.shape))).astype(layout.dtype).reshape(rows, -1).view(np.uint8)
            )
        writer.finish()
        found.append(part)
    return found


def milliseconds(work: Callable[[int], object], times: int = TIMES) -> float:
    """The median."""
    work(0)
    took = []
    for number in range(times):
        began = time.perf_counter()
        work(number)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e3


def taking(rows: list[Rows]) -> Callable[[int], object]:
    def take(number: int) -> object:
        draw = torch.Generator().manual_seed(number)
        indices = torch.randint(IMAGES, (BATCH,), generator=draw)
        views = torch.randint(VIEWS, (BATCH,), generator=draw)
        return [one.take(views, indices) for one in rows]

    return take


def main(folder: Path) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    panel = TeacherPanel([build_model("vgg13", 3, 100, seed).to(device) for seed in range(TEACHERS)])
    images = torch.randn(BATCH, 3, 32, 32, device=device)

    def finished(work: Callable[[int], object]) -> Callable[[int], object]:
        def do(number: int) -> None:
            work(number)
            if device.type == "cuda":
                torch.cuda.synchronize()

        return do

    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}; ms a batch of {BATCH}, medians\n")
    print(f"asked of {TEACHERS} VGG-13    {milliseconds(finished(lambda number: panel(images)), 10):8.2f}")
    files = [parts(folder / str(teacher), layout) for teacher in range(TEACHERS) for layout in LAYOUTS]
    for held in ("files", "memory", *(["device"] if device.type == "cuda" else [])):
        views = [[part.read(lambda: None) for part in one] for one in files]
        if held == "memory":
            views = [[(layout, np.array(rows)) for layout, rows in one] for one in views]
        rows = [rows_of(one, device, held) for one in views]
        print(f"taken from {held:14}{milliseconds(finished(taking(rows))):8.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as own:
            main(Path(own))
