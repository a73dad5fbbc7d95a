"""Compiling for real, in a process of its own: minutes; run with `pytest -m slow tests/engine/compiled`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from support.presets import tiny

from engine import Run, paths
from engine.compiled.builder import Builder
from engine.compiled.pure import PurePanel
from engine.compiled.request import StepsRequest, TeachersRequest, request_of
from engine.compiled.slices import Slices
from engine.events import EpochEnded, Event, Log
from engine.meta.sgd import Sgd
from engine.methods import Plan
from engine.models import build_model
from engine.models.panel import TeacherPanel
from engine.preset import KdPart

pytestmark = pytest.mark.slow

PLAN = Plan(KdPart(name="kd"), "resnet8", 1, 10, 16, teacher_channels=(64,))
SGD = Sgd(0.05, 0.9, 5e-4, True)
PATIENCE = 600


def request() -> StepsRequest:
    return StepsRequest.of(PLAN, torch.zeros(16, 1, 8, 8), [(64, 2, 2)], SGD)


def wait_for(builder: Builder, part: str):
    ends = time.monotonic() + PATIENCE
    while (found := builder.take(part)) is None:
        assert time.monotonic() < ends
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMKD_CACHE", str(cache))


def test_a_step_is_compiled_once_kept_and_found_again() -> None:
    asked = request()
    assert request_of(asked.to_json()) == asked
    builder = Builder(asked)
    assert not builder.ready("train")
    builder.start()
    other = Builder(asked)
    other.start()  # somebody is at it: this one waits for what comes of that
    step = wait_for(builder, "train")
    assert callable(step), step
    assert callable(wait_for(other, "train"))
    builder.close()
    other.close()
    assert builder.folder.stat().st_mode & 0o077 == 0
    (machine_code,) = builder.folder.parent.glob("inductor-*")
    assert list(machine_code.rglob("*.so"))
    assert machine_code.stat().st_mode & 0o077 == 0

    given = asked.example()
    images = torch.randn(16, 8, 8, 1).permute(0, 3, 1, 2)  # grey ones, as they come out of augmentation
    given = (*given[:4], given[4] + 0.05, images, *given[6:])
    for ours, theirs in zip(step(*given)[0], asked.function("train")(*given)[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    again = Builder(request())
    assert again.ready("train")
    assert callable(wait_for(again, "train"))

    (again.folder / "train.bin").write_bytes(b"damaged")
    damaged = Builder(request())
    assert isinstance(wait_for(damaged, "train"), Exception)
    assert not damaged.ready("train")  # the next run compiles it anew


@pytest.mark.parametrize("bf16", [False, True])
def test_the_teachers_pass_is_compiled_with_their_weights_left_open(bf16: bool) -> None:
    """Shared by all runs with such teachers, whatever these have learned."""
    images = torch.randn(16, 1, 8, 8)
    teachers = [build_model("resnet8", 1, 10, seed=1), build_model("vgg8", 1, 10, seed=2)]
    panel = TeacherPanel(teachers, bf16)
    asked = TeachersRequest.of(panel, (("resnet8", None), ("vgg8", None)), 10, images, 1)
    assert request_of(asked.to_json()) == asked
    builder = Builder(asked)
    builder.start()
    compiled = wait_for(builder, "teachers")
    builder.close()
    assert callable(compiled), compiled
    tensors, many, slices = PurePanel(panel, images).tensors(), torch.randn(32, 1, 8, 8), Slices()
    found = [*compiled(tensors, images), *slices(lambda part: compiled(tensors, part), many, 2)]
    slices.close()
    expected = [tensor for batch in (images, many) for teacher in teachers for tensor in teacher(batch)]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < (0.05 if bf16 else 1e-5) * theirs.norm()


def test_a_compiler_that_fails_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    monkeypatch.setenv("PATH", "/nowhere")
    plan = Plan(KdPart(name="kd"), "resnet14", 1, 10, 16, teacher_channels=(64,))
    builder = Builder(StepsRequest.of(plan, torch.zeros(16, 1, 8, 8), [(64, 2, 2)], SGD))
    builder.start()
    found = wait_for(builder, "train")
    builder.close()
    assert isinstance(found, RuntimeError)
    assert "compile.log" in str(found)
    assert (builder.folder / "compile.log").stat().st_size > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_changes_over_and_its_loss_curve_stays(tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real distillation of digits by MMKD, long enough for both kinds of step to change over."""
    monkeypatch.setenv("MMKD_CACHE", str(tmp_path / "cache"))
    curves: dict[str, list[float]] = {}
    told: list[str] = []
    overrides = (f"hardware.precision={precision}", "train.epochs=60", "evaluate.student_alone=false", "method.beta=10")
    for mode in ("off", "on"):
        run = Run(tiny("dataset.train_images=1000", *overrides, f"hardware.compile={mode}"), tmp_path / mode)
        events: list[Event] = []
        if mode == "on":
            run.subscribe(_hold_until_compiled)
        run.subscribe(events.append)
        assert run.execute().state == "done", run.result
        curves[mode] = [e.loss for e in events if isinstance(e, EpochEnded) and e.phase == "distil"]
        told += [e.message for e in events if isinstance(e, Log) and mode == "on"]
    assert any("training steps from here on" in line for line in told), told
    assert any("meta steps from here on" in line for line in told), told
    assert any("compiled teachers from here on" in line for line in told), told
    for eager, compiled in zip(curves["off"][5:], curves["on"][5:], strict=True):
        assert compiled == pytest.approx(eager, rel=0.25)
    ends = [sum(curve[-10:]) / 10 for curve in curves.values()]
    assert ends[1] == pytest.approx(ends[0], rel=0.1)


def _hold_until_compiled(event: Event) -> None:
    """A run this short would be over before it is compiled: it waits after its first epochs, as no real run does."""
    if isinstance(event, EpochEnded) and event.phase == "distil" and event.epoch == 3:
        ends = time.monotonic() + PATIENCE
        while time.monotonic() < ends and not list((paths.cache_dir() / "compiled").glob("*/meta.bin")):
            time.sleep(1)
