"""How many images a second a whole training takes in: loader, augmentation, teachers, steps, meta steps and events.

python benchmarks/epochs.py [--case vgg] [--images 50000] [--epochs 10] [--device cuda] [--precision auto] [--compile on]

Random images of the case's size lie where a run has them, the teachers' weights are random as well. A line an epoch: images per
second over the epoch, and how busy the GPU was. Lines of the training's log come as they are told, with the second.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from engine.bench.cases import CASES, Case  # before torch: it says how OpenMP's threads wait

# isort: split
import torch

from engine.bench.networks import Setting
from engine.catalog import DATASETS
from engine.compiled.stepper import panel_of, stepper_of
from engine.data.images import split_images
from engine.device import resolve_device, uses_bf16
from engine.events import EpochEnded, Event, Log
from engine.methods.make import Plan
from engine.models.panel import TeacherPanel
from engine.preset import EvaluatePart, HardwarePart, MetaPart, MmkdPart, TeacherPart, TrainPart
from engine.trainer import Phase, Trainer


@contextmanager
def busy(device: torch.device, samples: list[int]) -> Iterator[None]:
    """Collects the percent of the time in which a GPU computed anything, five times a second."""
    if device.type != "cuda":
        yield
        return
    done = threading.Event()

    def sample() -> None:
        while not done.wait(0.2):
            samples.append(torch.cuda.utilization(device))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def trainer_of(
    case: Case,
    hardware: HardwarePart,
    images: int,
    epochs: int,
    emit: Callable[[Event], None],
    tell: Callable[[str, str], None],
    poll: Callable[[Trainer], None] = lambda trainer: None,
) -> Trainer:
    """MMKD on `images` random images of the case's size, its teachers' weights random as well."""
    device = resolve_device(hardware)
    setting = Setting(case, device)
    facts = replace(DATASETS["cifar-100"], size=case.size)
    generator = torch.Generator().manual_seed(0)

    def drawn(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.randint(256, (count, 3, case.size, case.size), generator=generator, dtype=torch.uint8)
        return pixels, torch.randint(case.classes, (count,), generator=generator)

    held = 100
    split = split_images(
        facts, drawn(images + held), drawn(held), validation_fraction=held / (images + held), train_images=None, split_seed=0,
        device=device,
    )  # fmt: skip
    bf16 = uses_bf16(hardware, device)
    panel = TeacherPanel(setting.teachers(), bf16)
    parts = [TeacherPart(arch=arch, features=case.features) for arch in case.teachers]
    method = MmkdPart(name="mmkd", meta=MetaPart(every=case.every, buffer_size=case.buffer))
    plan = Plan(
        method, case.student, 3, case.classes, case.batch, tuple(panel.channels), bf16, size=case.size, features=case.features
    )
    return Trainer(
        plan.build(0, device),
        split,
        panel_of(panel, parts, case.classes, hardware.compile, tell),
        TrainPart(epochs=epochs, batch_size=case.batch, lr=0.01),
        EvaluatePart(every=epochs),
        seed=0,
        phase=Phase("distil", 0, case.name),
        emit=emit,
        poll=poll,
        stepper=stepper_of(plan, hardware.compile, tell),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), default="vgg")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", default="on")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no epoch begins after that many")
    asked = parser.parse_args()

    hardware = HardwarePart(device=asked.device, precision=asked.precision, compile=asked.compile)
    began = time.monotonic()

    def tell(level: str, message: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {level}: {message}", flush=True)

    rates: list[float] = []
    samples: list[int] = []
    last = [began]

    class EnoughError(Exception):
        pass

    def emit(event: Event) -> None:
        if isinstance(event, Log):
            tell(event.level, event.message)
        if isinstance(event, EpochEnded):
            now = time.monotonic()
            rate = trainer.steps_per_epoch * trainer.recipe.batch_size / (now - last[0])
            rates.append(rate)
            share = f", GPU busy {statistics.mean(samples):.0f} %" if samples else ""
            tell("epoch", f"{len(rates)}: {rate:,.0f} images/s{share}, loss {event.loss}")
            samples.clear()
            last[0] = time.monotonic()
            if now - began > asked.seconds:
                raise EnoughError

    trainer = trainer_of(CASES[asked.case], hardware, asked.images, asked.epochs, emit, tell)
    last[0] = time.monotonic()
    with busy(resolve_device(hardware), samples), suppress(EnoughError):
        trainer.run()
    print(f"median of the last three epochs: {statistics.median(rates[-3:]):,.0f} images/s", file=sys.stdout)


if __name__ == "__main__":
    main()
