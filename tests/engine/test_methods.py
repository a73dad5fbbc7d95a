"""Every method, and every ablation of MMKD, in real runs on digits: they learn, and go on to the bit where they were stopped."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import pytest
import safetensors.torch
from support.presets import ON_CPU, tiny

from engine import Preset, Run
from engine.events import EpochEnded, Event, Log, Metrics

SETTINGS = ("evaluate.student_alone=false", "hardware.threads=1", "hardware.precision=fp32", ON_CPU)
METHODS = {
    "fitnet": "{name: fitnet, beta: 1}",
    "ebkd": "{name: ebkd}",
    "camkd": "{name: camkd, beta: 1}",
    "aekd": "{name: aekd}",
    "aekd-features": "{name: aekd, beta: 1}",
    "logits-alone": "{name: mmkd, beta: 1, weigh: logits, meta: {every: 4, buffer_size: 40}}",
    "features-alone": "{name: mmkd, beta: 1, weigh: features, meta: {every: 4, buffer_size: 40}}",
    "joint": "{name: mmkd, beta: 1, meta: {learning: joint}}",
    "random": "{name: mmkd, beta: 1, meta: {every: 4, buffer_size: 40, batches: random}}",
}
TEACHERS = "[{arch: resnet8, train: &}, {arch: resnet14, seed: 1, train: &}, {arch: resnet8, seed: 2, train: *}]"


def preset(method: str, *overrides: str) -> Preset:
    """Three small teachers, one of which learned from wrong labels, and 4 epochs of 5 steps."""
    recipe = "{epochs: 2, batch_size: 32}"
    teachers = TEACHERS.replace("&", recipe).replace("*", "{epochs: 2, batch_size: 32, label_noise: 0.4}")
    return tiny(f"teachers={teachers}", f"method={METHODS[method]}", "train.epochs=4", *SETTINGS, *overrides)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("teachers")


@pytest.fixture(scope="module")
def whole(store: Path, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """A method's run, never interrupted: its folder and what it said."""

    @functools.cache
    def of(method: str) -> tuple[Path, list[Event]]:
        folder = tmp_path_factory.mktemp("whole") / method
        return folder, executed(Run(preset(method), folder, store=store), "done")

    return of


def executed(run: Run, state: str, stop_at: int | None = None) -> list[Event]:
    """What it said; it is asked to stop at a step of the distillation."""
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if stop_at is not None and isinstance(event, Metrics) and event.phase == "distil" and event.step >= stop_at:
            run.control.stop()

    run.subscribe(listen)
    result = run.execute()
    assert result.state == state, result.message
    return events


def ended(events: list[Event]) -> list[EpochEnded]:
    return [event for event in events if isinstance(event, EpochEnded) and event.phase == "distil"]


@pytest.mark.parametrize("method", METHODS)
def test_it_learns(method: str, whole) -> None:  # type: ignore[no-untyped-def]
    epochs = ended(whole(method)[1])
    losses = [epoch.loss for epoch in epochs]
    assert all(loss is not None and math.isfinite(loss) for loss in losses)
    assert losses[-1] < losses[0]  # type: ignore[operator]
    for epoch in epochs:
        assert sum(epoch.logit_weights) == pytest.approx(1.0, abs=1e-5)
    looks = preset(method).looks_at_features
    assert looks is (method not in ("ebkd", "aekd"))
    assert all(bool(epoch.feature_weights) is looks for epoch in epochs)


@pytest.mark.parametrize(
    ("method", "logit", "feature"),
    [("fitnet", False, False), ("ebkd", True, False), ("camkd", True, True), ("aekd-features", True, True),
     ("logits-alone", True, False), ("features-alone", False, True), ("joint", True, True), ("random", True, True)],
)  # fmt: skip
def test_what_is_weighed_and_what_is_not(method: str, logit: bool, feature: bool, whole) -> None:  # type: ignore[no-untyped-def]
    last = ended(whole(method)[1])[-1]
    for weighed, weights in ((logit, last.logit_weights), (feature, last.feature_weights)):
        if weights:
            assert (max(abs(weight - 1 / 3) for weight in weights) > 1e-4) is weighed
    if method in ("logits-alone", "features-alone"):
        gradients = (last.logit_gradient, last.feature_gradient)
        assert (gradients[0] > 0, gradients[1] > 0) == (logit, feature)  # type: ignore[operator]
    assert (last.outer_loss is not None) is (method in ("logits-alone", "features-alone", "random"))


@pytest.mark.parametrize(
    "method",
    [
        "camkd",
        "logits-alone",
        "joint",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("aekd-features", "features-alone", "random")),
    ],
)
def test_it_goes_on_to_the_bit(method: str, whole, store: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder, events = whole(method)
    executed(Run(preset(method), tmp_path / "run", store=store), "stopped", stop_at=8)
    again = executed(Run(preset(method), tmp_path / "run", store=store, resume=True), "done")
    known = {epoch.epoch: epoch for epoch in ended(events)}
    for epoch in ended(again):
        assert {**vars_of(epoch), "t": 0} == {**vars_of(known[epoch.epoch]), "t": 0}
    one, other = (safetensors.torch.load_file(path / "student.safetensors") for path in (folder, tmp_path / "run"))
    assert {k: v.numpy().tobytes() for k, v in one.items()} == {k: v.numpy().tobytes() for k, v in other.items()}


def vars_of(event: EpochEnded) -> dict[str, object]:
    return {name: getattr(event, name) for name in event.__dataclass_fields__}


@pytest.mark.parametrize("method", ["camkd", "aekd"])
def test_with_a_teacher_cache(method: str, store: Path, tmp_path: Path) -> None:
    cached = preset(method, "teacher_cache={views: 1, storage: memory}", "train.augment=false")
    asked = preset(method, "train.augment=false")
    runs = [ended(executed(Run(p, tmp_path / str(n), store=store), "done")) for n, p in enumerate((asked, cached))]
    for one, other in zip(*runs, strict=True):
        assert one.loss == pytest.approx(other.loss, rel=5e-2)
        assert one.logit_weights == pytest.approx(other.logit_weights, abs=2e-2)


@pytest.mark.parametrize("method", ["camkd", "aekd", "joint"])
def test_what_cannot_be_compiled_says_so_once(method: str, store: Path, tmp_path: Path) -> None:
    events = executed(Run(preset(method, "hardware.compile=on"), tmp_path / "run", store=store), "done")
    assert sum(isinstance(event, Log) and "is not compiled" in event.message for event in events) == 1
    warnings = [event.message for event in events if isinstance(event, Log) and event.level == "warning"]
    assert all("no better than guessing" in message for message in warnings)  # teachers of an epoch
