"""Training on several processes of this machine: images/s against one process, and the share of the time that goes to exchange.

python benchmarks/scaling.py [--processes 2] [--rounds 5] [--steps 60] [--json]

ResNet-20 teachers, three of them, and a ResNet-8 on 32x32 pixels, batches of 64 in each process, a meta step every fifth step;
one thread a process; random images, no loader. One process and several take turns, and the medians of the rounds are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.multiprocessing as mp

from engine.data import Batch
from engine.methods import Plan
from engine.models import build_model
from engine.models.panel import TeacherPanel
from engine.preset import METHOD
from engine.ranks import ALONE, ProcessGroup, Ranks
from engine.stepping import Stepper

BATCH, CLASSES, SIZE, TEACHERS = 64, 100, 32, 3


class Timed(ProcessGroup):
    """Counts the seconds that pass in exchanges, waiting for the slower process included, and the bytes."""

    seconds = 0.0
    bytes = 0

    def total(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        with self._timed():
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
            return super().total(tensors)

    def everywhere(self, flags: torch.Tensor) -> torch.Tensor:
        with self._timed():
            return super().everywhere(flags)

    def told(self, values: Sequence[int]) -> list[int]:
        with self._timed():
            return super().told(values)

    @contextmanager
    def _timed(self) -> Any:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began


def train(ranks: Ranks, steps: int) -> dict[str, float]:
    """Seconds, exchange included, for so many steps after a few that do not count."""
    torch.set_num_threads(1)
    teachers = [build_model("resnet20", 3, CLASSES, seed, size=SIZE) for seed in range(TEACHERS)]
    panel = TeacherPanel(teachers)
    settings = METHOD.validate_python({"name": "mmkd", "meta": {"every": 5, "buffer_size": 128}})
    plan = Plan(settings, "resnet8", 3, CLASSES, BATCH, tuple(panel.channels), size=SIZE)
    method = plan.build(0, torch.device("cpu"), [teacher.classify for teacher in panel.teachers])
    method.ranks = ranks
    method.learner.train()
    stepper = Stepper(method, torch.optim.SGD(method.learner.parameters(), lr=0.05, momentum=0.9, nesterov=True))
    generator = torch.Generator().manual_seed(ranks.rank)
    warm = 10
    began = 0.0
    for number in range(warm + steps):
        if number == warm:
            ranks.told([0])
            began = time.perf_counter()
            if isinstance(ranks, Timed):
                ranks.seconds, ranks.bytes = 0.0, 0
        images = torch.randn(BATCH, 3, SIZE, SIZE, generator=generator)
        batch = Batch(images, torch.randint(CLASSES, (BATCH,), generator=generator))
        ranks.told([0])  # as a run does before each step
        stepper(batch, panel.of(batch), number)
    seconds = time.perf_counter() - began
    exchange = ranks.seconds if isinstance(ranks, Timed) else 0.0
    sent = ranks.bytes / steps if isinstance(ranks, Timed) else 0.0
    return {"images_per_second": steps * BATCH * ranks.size / seconds, "exchange": exchange / seconds, "bytes_per_step": sent}


def process(rank: int, size: int, port: int, steps: int, folder: str) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    ranks = Timed() if size > 1 else ALONE
    found = train(ranks, steps)
    if rank == 0:
        (Path(folder) / "found.json").write_text(json.dumps(found))
    ranks.close()


def measured(size: int, steps: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        mp.spawn(process, (size, port, steps, folder), size)
        return json.loads((Path(folder) / "found.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    rounds: dict[int, list[dict[str, float]]] = {1: [], chosen.processes: []}
    for number in range(chosen.rounds):
        for size, found in rounds.items():
            found.append(measured(size, chosen.steps))
            print(f"round {number + 1}, {size} process(es): {found[-1]['images_per_second']:.0f} images/s", file=sys.stderr)
    medians = {size: {key: statistics.median(one[key] for one in found) for key in found[0]} for size, found in rounds.items()}
    ratio = medians[chosen.processes]["images_per_second"] / medians[1]["images_per_second"]
    if chosen.json:
        print(json.dumps({"one": medians[1], "several": medians[chosen.processes], "ratio": ratio}))
        return
    several = medians[chosen.processes]
    print(f"{chosen.processes} processes train {ratio:.2f} times as many images/s as one")
    print(f"exchange: {several['exchange']:.1%} of the time, {several['bytes_per_step'] / 1e6:.2f} MB a step")


if __name__ == "__main__":
    main()
