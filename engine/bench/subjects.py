"""From a subject's name to what is timed under it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from engine.bench.naive import MetaSgd, NaiveLearner, NaiveMmkd, NaiveNets, naive_average
from engine.bench.networks import LR, Setting, recipe
from engine.bench.ours import limit, ours, student
from engine.bench.subject import Subject


def make_subject(name: str, setting: Setting) -> Subject:
    """One of `cases.SUBJECTS` on this setting, its hard buffer full."""
    if name == "naive":
        return _naive(setting)
    if name == "aver":
        return _average(setting)
    if name == "exact":
        return ours(setting, name, "fp32", cached=False)
    if name in ("auto", "cached"):
        return ours(setting, name, "auto", cached=name == "cached")
    return limit(setting, "auto") if name == "limit" else student(setting, "auto")


def _naive(setting: Setting) -> Subject:
    case = setting.case
    teachers, learned = setting.teachers(), setting.student()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        regressors = [_pointwise(learned.feature_channels, t.feature_channels) for t in teachers]
        nets = NaiveNets(len(teachers), case.classes, case.batch).to(setting.device)
    learner = NaiveLearner(learned, regressors).to(setting.device)
    optimizer = MetaSgd(learner.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4, nesterov=True)
    mmkd = NaiveMmkd(learner, teachers, nets, optimizer, buffer=case.buffer)
    pairs = ((batch.images, batch.labels) for batch in setting.in_turn())
    while mmkd.hard_images is None or len(mmkd.hard_images) < case.buffer:
        mmkd.train(*next(pairs))
    return Subject("naive", _by_default(lambda: mmkd.train(*next(pairs))), _by_default(lambda: mmkd.meta(case.batch)))


def _average(setting: Setting) -> Subject:
    teachers, learned = setting.teachers(), setting.student()
    optimizer = recipe(learned.parameters())
    pairs = ((batch.images, batch.labels) for batch in setting.in_turn())
    return Subject("aver", _by_default(lambda: naive_average(learned, teachers, optimizer, *next(pairs))))


def _by_default(step: Callable[[], object]) -> Callable[[], None]:
    """A step in the float32 that public code gets, which says nothing of it: on a GPU, convolutions round to TF32."""

    def run() -> None:
        ours, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, True
        try:
            step()
        finally:
            torch.backends.cudnn.allow_tf32 = ours

    return run


def _pointwise(channels: int, teacher: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, teacher, 1), nn.BatchNorm2d(teacher), nn.ReLU())
