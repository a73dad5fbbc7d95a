"""How teachers are asked fastest: cores that share each operation or take a slice of the batch each, teachers apart or together.

python benchmarks/teachers_pass.py [--device cuda:0] [--teachers 3] [--rounds 15]

First table, CPU alone: the compiled pass through ResNet-20s and through VGG13s, batch 64, two threads. Second: the convolutions
of ResNet-20's, VGG13's and ResNet50's layers, one after the other or as one with groups; float32 on a CPU and bfloat16 on a GPU,
batch 32, one thread, as a slice has. Medians in ms, in turn.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from engine.bench.cases import CASES  # before torch: it says how OpenMP's threads wait

# isort: split
import torch
import torch.nn.functional as F

from engine.bench.measure import synchronise
from engine.bench.networks import Setting
from engine.compiled.flat import callable_of, compile_flat
from engine.compiled.pure import PurePanel
from engine.compiled.slices import Slices
from engine.models.panel import TeacherPanel

BATCH = 32
THREADS = 2
LAYERS = ((16, 32), (32, 16), (64, 8), (64, 32), (256, 8), (512, 4))  # channels, height = width


def of_a_pass(case: str, teachers: int, rounds: int) -> dict[str, float]:
    """Form -> ms for one compiled pass through a case's teachers."""
    setting = Setting(replace(CASES[case], teachers=CASES[case].teachers[:1] * teachers), torch.device("cpu"))
    images = setting.batches()[0].images
    pure = PurePanel(TeacherPanel(setting.teachers()), images)
    tensors, slices = pure.tensors(), Slices()
    part = images[: len(images) // THREADS]
    whole = callable_of(*compile_flat(pure.teachers, (tensors, images), THREADS))
    single = callable_of(*compile_flat(pure.teachers, (tensors, part), 1))
    forms = {
        "shared operations": lambda: whole(tensors, images),
        "a slice each": lambda: slices(lambda own: single(tensors, own), images, THREADS),
    }
    found = in_turn(forms, rounds, torch.device("cpu"))
    slices.close()
    return found


def of_a_layer(channels: int, size: int, teachers: int, rounds: int, device: torch.device) -> dict[str, float]:
    """Form -> ms for one 3x3 convolution of every teacher."""
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    shape = (BATCH, channels, size, size)
    maps = [_last(torch.randn(shape, device=device, dtype=dtype)) for _ in range(teachers)]
    kernels = [_last(torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)) for _ in range(teachers)]
    together, kernel = torch.cat(maps, 1), torch.cat(kernels)
    last, contiguous, kernel_contiguous = _last(together), together.contiguous(), kernel.contiguous()
    forms: dict[str, Callable[[], object]] = {
        "apart": lambda: [F.conv2d(x, w, padding=1) for x, w in zip(maps, kernels, strict=True)],
        "together, channels-last": lambda: F.conv2d(last, kernel, padding=1, groups=teachers),
        "together, contiguous": lambda: F.conv2d(contiguous, kernel_contiguous, padding=1, groups=teachers),
    }
    return in_turn(forms, rounds, device)


def in_turn(forms: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Medians, there and back; two rounds to warm up."""
    taken: dict[str, list[float]] = {form: [] for form in forms}
    for number in range(rounds + 2):
        for form in list(forms) if number % 2 else reversed(list(forms)):
            synchronise(device)
            began = time.perf_counter()
            forms[form]()
            synchronise(device)
            taken[form].append((time.perf_counter() - began) * 1000)
    return {form: statistics.median(samples[2:]) for form, samples in taken.items()}


def _last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _table(title: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    forms = list(next(iter(rows.values())))
    lines = [f"| {title} | " + " | ".join(forms) + " |", "| --- " + "| ---: " * len(forms) + "|"]
    return "\n".join(
        [*lines, *(f"| {name} | " + " | ".join(f"{row[f]:.1f}" for f in forms) + " |" for name, row in rows.items())]
    )


@torch.no_grad()
def main() -> None:
    """Prints Markdown tables."""
    parser = argparse.ArgumentParser(description="How teachers are asked fastest.")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--teachers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=15)
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    if device.type == "cpu":
        torch.set_num_threads(THREADS)
        cases = {f"{chosen.teachers} x {CASES[name].teachers[0]}": name for name in ("resnet", "vgg")}
        passes = {words: of_a_pass(name, chosen.teachers, chosen.rounds) for words, name in cases.items()}
        sys.stdout.write(_table("compiled pass", passes) + "\n\n")
    torch.set_num_threads(1)
    layers = {f"{c}, {size}x{size}": of_a_layer(c, size, chosen.teachers, chosen.rounds, device) for c, size in LAYERS}
    sys.stdout.write(_table("channels, map", layers) + "\n")


if __name__ == "__main__":
    main()
