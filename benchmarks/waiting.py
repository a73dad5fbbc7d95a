"""How long OpenMP's threads should spin while they wait for each other: MMKD's steps on an idle machine and on a busy one.

python benchmarks/waiting.py [--case resnet] [--rounds 2]

A process for each way of waiting, in turn, round after round (libgomp reads it once, when it is loaded). Each takes compiled
float32 steps with cached teachers on two threads, while none, one or two other processes use a core each. What it prints are
medians over the rounds of medians in ms.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

WAYS: dict[str, dict[str, str]] = {
    "sleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "1,000 turns": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"},
    "10,000 turns": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"},
    "libgomp's own": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "300000"},  # where no policy is asked for
}
LOADS = (0, 1, 2)


def measure(case: str) -> dict[str, list[float]]:
    """Load -> [a training step, a meta step], ms; with this process's way of waiting."""
    import torch

    from engine.bench.cases import CASES
    from engine.bench.networks import Setting
    from engine.bench.ours import ours

    torch.set_num_threads(2)
    subject = ours(Setting(CASES[case], torch.device("cpu")), "exact", "fp32", cached=True)
    subject.settle()
    assert subject.meta is not None
    found = {}
    for load in LOADS:
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(load)]
        time.sleep(0.5)
        try:
            found[str(load)] = [_median(subject.train, 11), _median(subject.meta, 5)]
        finally:
            for other in others:
                other.kill()
                other.wait()
    return found


def _median(step: Callable[[], None], times: int) -> float:
    step()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        step()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description="How long OpenMP's threads should spin while they wait for each other.")
    parser.add_argument("--case", default="resnet", help="a case of `mmkd bench`")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        sys.stdout.write(json.dumps(measure(chosen.case)))
        return
    found: dict[str, list[Any]] = {way: [] for way in WAYS}
    for number in range(chosen.rounds):
        for way, environment in WAYS.items():
            sys.stderr.write(f"round {number + 1} of {chosen.rounds}: {way}\n")
            command = [sys.executable, __file__, "--measure", "--case", chosen.case]
            done = subprocess.run(command, env=os.environ | environment, stdout=subprocess.PIPE, check=True)
            found[way].append(json.loads(done.stdout))
    lines = ["| while waiting | " + " | ".join(f"load {load}: train, meta" for load in LOADS) + " |", "| --- " * 4 + "|"]
    for way, rounds in found.items():
        cells = [[statistics.median(one[str(load)][part] for one in rounds) for part in (0, 1)] for load in LOADS]
        lines.append(f"| {way} | " + " | ".join(f"{train:.0f}, {meta:.0f}" for train, meta in cells) + " |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
