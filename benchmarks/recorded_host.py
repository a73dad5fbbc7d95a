"""What a recorded step asks of the host: loader, augmentation, arguments, hard buffer, averages. Needs no GPU.

python benchmarks/recorded_host.py [--steps 2000]

Three ResNet20 -> ResNet8 on a CPU, batches of four. Recordings are hollow: a replay takes no time. Medians in ms of a step
without and with a meta step, and their mean where every fifth has one.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

from engine.bench.cases import CASES  # before torch: it says how OpenMP's threads wait

# isort: split
import torch
import torch.utils._pytree as pytree
from epochs import trainer_of

from engine.compiled import panel, recorded, steps
from engine.preset import HardwarePart
from engine.trainer import Trainer

CASE = replace(CASES["resnet"], batch=4, buffer=40)
UNTIL_RECORDED = 1000  # steps


def hollow(function: Any, args: tuple[Any, ...], device: torch.device) -> recorded.Recording:
    """The results of the first call, for ever."""
    return recorded.Recording(lambda: None, pytree.tree_map(torch.clone, function(*args)), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    asked = parser.parse_args()

    torch.set_num_threads(1)
    recorded.record = hollow
    for module in (panel, steps):
        module.records = lambda device: True  # type: ignore[attr-defined]
    times: list[float] = []

    class EnoughError(Exception):
        pass

    def poll(trainer: Trainer) -> None:
        times.append(time.perf_counter())
        if len(times) == UNTIL_RECORDED and trainer.stepper.stages.used("meta") is None:
            raise RuntimeError("nothing was recorded")
        if len(times) > UNTIL_RECORDED + asked.steps:
            raise EnoughError

    hardware = HardwarePart(device="cpu", precision="fp32", compile="auto")
    count = (UNTIL_RECORDED + asked.steps + CASE.every) * CASE.batch
    trainer = trainer_of(CASE, hardware, count, 1, lambda event: None, lambda level, message: None, poll)
    with suppress(EnoughError):
        trainer.run()
    took = [1000 * (after - before) for before, after in pairwise(times)][UNTIL_RECORDED:]
    *without, meta = sorted(statistics.median(took[place :: CASE.every]) for place in range(CASE.every))
    print(f"{statistics.mean(without):.2f} without, {meta:.2f} with a meta step; mean {statistics.mean([*without, meta]):.2f}")


if __name__ == "__main__":
    main()
