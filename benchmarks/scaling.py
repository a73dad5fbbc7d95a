"""Training on several processes of this machine: images/s against one process, and the share of the time that goes to exchange.

python benchmarks/scaling.py [--processes 2] [--rounds 5] [--steps 60] [--json]

ResNet-20 teachers, three of them, and a ResNet-8 on 32x32 pixels, batches of 64 in each process, a meta step every fifth step;
one thread a process; random images, no loader. One process, several that exchange, and as many that know
nothing of each other (what the machine has to give) take turns, and the medians of the rounds are compared.
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


def process(rank: int, size: int, port: int, steps: int, folder: str, together: bool) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    ranks = Timed() if together else ALONE
    found = train(ranks, steps)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    ranks.close()


def measured(size: int, together: bool, steps: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        mp.spawn(process, (size, port, steps, folder, together), size)
        found: list[dict[str, float]] = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(size)]
    if together:
        return found[0]
    return found[0] | {"images_per_second": sum(one["images_per_second"] for one in found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    subjects = {"one": (1, False), "together": (chosen.processes, True), "apart": (chosen.processes, False)}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in subjects}
    for number in range(chosen.rounds):
        for name, (size, together) in subjects.items():
            found = measured(size, together, chosen.steps)
            rounds[name].append(found)
            print(f"round {number + 1}, {name}: {found['images_per_second']:.0f} images/s", file=sys.stderr)
    medians = {name: {key: statistics.median(one[key] for one in found) for key in found[0]} for name, found in rounds.items()}
    one, together, apart = (medians[name]["images_per_second"] for name in subjects)
    several = medians["together"]
    if chosen.json:
        print(json.dumps(medians | {"together/one": together / one, "together/apart": together / apart}))
        return
    print(f"{chosen.processes} processes together train {together / one:.2f} times as many images/s as one,")
    print(f"{together / apart:.2f} times as many as {chosen.processes} apart")
    print(f"exchange: {several['exchange']:.1%} of the time, {several['bytes_per_step'] / 1e6:.2f} MB a step")


if __name__ == "__main__":
    main()
