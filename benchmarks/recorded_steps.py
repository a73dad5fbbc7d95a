"""What recording is worth on a GPU: a training step, a meta step and the teachers' pass, eager, recorded and compiled.

python benchmarks/recorded_steps.py [--case vgg] [--precision bf16] [--compile] [--rounds 15]

Medians in ms, in turn. `--compile` adds compiled functions and their recordings, after minutes of compiling. Needs a GPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial

from engine.bench.cases import CASES  # before torch: it says how OpenMP's threads wait

# isort: split
import torch
import torch.utils._pytree as pytree
from teachers_pass import in_turn
from torch import Tensor

from engine.bench.networks import Setting, recipe
from engine.compiled.flat import callable_of, channels_last, compile_flat
from engine.compiled.pure import Pure, PurePanel
from engine.compiled.recorded import Recorded, SideBySide
from engine.control_group import usable_cores
from engine.device import resolve_device
from engine.meta.sgd import Sgd, momenta_of
from engine.methods.make import make_method
from engine.models.panel import TeacherPanel
from engine.preset import HardwarePart, MetaPart, MmkdPart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), default="vgg")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    asked = parser.parse_args()

    device = resolve_device(HardwarePart(device=asked.device))
    case, bf16 = CASES[asked.case], asked.precision == "bf16"
    setting = Setting(case, device)
    batch = setting.batches()[0]
    panel = TeacherPanel(setting.teachers(), bf16)
    said = [tensor for output in panel(batch.images) for tensor in output]
    method = make_method(
        MmkdPart(name="mmkd", meta=MetaPart(every=case.every, buffer_size=case.buffer)),
        setting.student(),
        panel.channels,
        classes=case.classes,
        batch_size=case.batch,
        seed=0,
        device=device,
        bf16=bf16,
    )
    method.learner.train()
    optimizer = recipe(method.learner.parameters())
    pure, asked_teachers = Pure(method, Sgd.of(optimizer)), PurePanel(panel, batch.images)
    parameters, buffers, weights = pure.tensors()
    momenta = momenta_of(optimizer, list(method.learner.parameters()))
    step = (parameters, momenta, buffers, weights, parameters[0].new_full((), 1e-3), batch.images, batch.labels, *said)
    teachers = (asked_teachers.tensors(), batch.images)

    side_by_side = SideBySide()

    def apart(tensors: Sequence[Sequence[Tensor]], images: Tensor) -> list[Tensor]:
        laid_out = images.contiguous(memory_format=torch.channels_last)
        calls = [partial(panel.one, number, laid_out) for number in range(len(tensors))]
        return [tensor for output in side_by_side(calls, images.device) for tensor in output]

    for what, function, args in (
        ("training step", pure.train, step),
        ("meta step", pure.meta, step),
        ("teachers", asked_teachers.teachers, teachers),
    ):
        forms = {"eager": partial(function, *args), "recorded": partial(Recorded(function), *args)}
        if what == "teachers":
            forms["recorded apart"] = partial(Recorded(apart, fixed=1), *args)
        if asked.compile:
            began = time.monotonic()
            compiled = callable_of(*compile_flat(function, args, 1, workers=usable_cores()))
            leaves, structure = pytree.tree_flatten(args)
            laid_out = pytree.tree_unflatten(channels_last(leaves), structure)
            forms[f"compiled in {time.monotonic() - began:.0f} s"] = partial(compiled, *laid_out)
            forms["compiled, recorded"] = partial(Recorded(compiled, compiled=True), *laid_out)
        for form, took in in_turn(forms, asked.rounds, device).items():
            print(f"{what:15} {form:24} {took:9.3f} ms")


if __name__ == "__main__":
    main()
