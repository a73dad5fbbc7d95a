"""Carries a plan out, a case after the other, in one process."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import ValidationError

from engine.bench.cases import Case, Plan
from engine.bench.machine import describe
from engine.bench.measure import Doing, Measured, Tell, measure
from engine.bench.networks import Setting
from engine.bench.report import Report, report
from engine.bench.subjects import make_subject
from engine.device import resolve_device
from engine.errors import UserError
from engine.preset import HardwarePart
from engine.text import one_line


def bench(plan: Plan, tell: Tell) -> Iterator[Report]:
    """A report for each of the plan's cases as soon as it is measured; `tell` hears what is being done.

    A KeyboardInterrupt ends it with a report of what had been measured of the case in hand, marked `interrupted`.
    UserError where this machine has no such device.
    """
    device = _device(plan.device)
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    for case in plan.cases:
        found = _bench_case(case, plan, device, _labelled(tell, case))
        yield found
        if found["interrupted"]:
            return


def _bench_case(case: Case, plan: Plan, device: torch.device, tell: Tell) -> Report:
    machine = describe(device)
    subjects: list[Measured] = []
    interrupted = False
    try:
        setting = Setting(case, device)
        for name in plan.subjects:
            tell(Doing("preparing", name))
            subjects.append(Measured.of(make_subject(name, setting)))
        measure(subjects, plan.rounds, device, tell)
    except KeyboardInterrupt:
        interrupted = True
    done = min((len(series.samples) for measured in subjects for _, series in measured.series()), default=0)
    return report(case, subjects, done, machine, interrupted=interrupted)


def _labelled(tell: Tell, case: Case) -> Tell:
    label = case.name
    if case.varied:
        size = getattr(case, case.varied)
        label += f", {case.varied} {size if isinstance(size, int) else len(size)}"
    return lambda doing: tell(Doing(f"{label}: {doing.stage}", doing.what))


def _device(name: str) -> torch.device:
    try:
        return resolve_device(HardwarePart(device=name))
    except ValidationError:
        raise UserError(f"--device is {one_line(name, 60)}; it must be auto, cpu, cuda or cuda:N") from None
    except UserError as error:
        raise UserError(str(error).replace("hardware.device", "--device", 1)) from None
