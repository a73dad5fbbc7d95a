"""What a case's arithmetic alone takes on this processor: no form of MMKD can be quicker than its convolutions.

python benchmarks/arithmetic.py [--case resnet] [--threads 2] [--rounds 20]

GFLOP of the convolutions and linear layers of one pass, as PyTorch counts them; a training step is three student passes, a meta
step (two matching steps, one of classification, the outer loss) is 26. GFLOP/s are the best of several of the case's own 3x3
convolutions, batch 64, channels-last. What no form can be quicker than is the one divided by the quickest of the others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from engine.bench.cases import CASES  # before torch: it says how OpenMP's threads wait

# isort: split
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from engine.bench.networks import Setting
from engine.models import Classifier

MATCHING = 2  # inner steps
TRAIN = 3  # passes' worth: forward, and backward to the maps and to the weights
# Each inner step's gradient and the outer one; back through all steps but the first, 6 each; through the first, its tangent: 2.
META = TRAIN * (MATCHING + 2) + 6 * MATCHING + 2
LAYERS = {"vgg": ((64, 32), (128, 16), (256, 8), (512, 4)), "resnet": ((16, 32), (32, 16), (64, 8))}  # channels, height = width


def gflop_of_a_pass(model: Classifier, images: Tensor) -> float:
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(images)
    return float(counted.get_total_flops()) / 1e9


def gflop_per_second(channels: int, size: int, batch: int, dtype: torch.dtype, rounds: int) -> float:
    """Of a 3x3 convolution."""
    maps = torch.randn(batch, channels, size, size).to(dtype, memory_format=torch.channels_last)
    kernel = torch.randn(channels, channels, 3, 3).to(dtype, memory_format=torch.channels_last)
    with torch.no_grad():
        best = min(_seconds(lambda: F.conv2d(maps, kernel, padding=1)) for _ in range(rounds))
    return 2 * 9 * batch * channels * channels * size * size / best / 1e9


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=LAYERS, action="append")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=20)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for name in asked.case or LAYERS:
        case = CASES[name]
        setting = Setting(case, torch.device("cpu"))
        images = setting.batches()[0].images
        teachers = sum(gflop_of_a_pass(teacher, images) for teacher in setting.teachers())
        student = gflop_of_a_pass(setting.student(), images)
        counts = {"teachers": teachers, "training step": TRAIN * student, "meta step": META * student}
        counts["mean iteration"] = counts["teachers"] + counts["training step"] + counts["meta step"] / case.every
        counts["mean iteration, cached"] = counts["mean iteration"] - teachers
        print(f"{name}: GFLOP " + ", ".join(f"{part} {count:.1f}" for part, count in counts.items()))
        for dtype in (torch.float32, torch.bfloat16):
            rates = [gflop_per_second(*layer, case.batch, dtype, asked.rounds) for layer in LAYERS[name]]
            bounds = ", ".join(f"{part} {count / max(rates) * 1e3:.0f}" for part, count in counts.items())
            each = ", ".join(f"{rate:.0f}" for rate in rates)
            print(f"{name}: {str(dtype).removeprefix('torch.')}: GFLOP/s {each}; no less than ms: {bounds}")


if __name__ == "__main__":
    main()
