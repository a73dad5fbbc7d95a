"""A whole run on real digits: its events, its folder, its control, its endings."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest
import safetensors.torch
import torch
from support.presets import ON_CPU, tiny

from engine import Run, load_preset
from engine.checkpoint import load_checkpoint
from engine.events import (
    Acknowledged,
    CheckpointSaved,
    EpochEnded,
    Event,
    Metrics,
    PhaseStarted,
    RunEnded,
    RunStarted,
    TeacherReady,
    from_line,
)
from engine.models import build_model


def run_tiny(folder: Path, *overrides: str, store: Path | None = None) -> tuple[Run, list[Event]]:
    events: list[Event] = []
    run = Run(tiny(*overrides), folder, store=store or folder.parent / "store")
    run.subscribe(events.append)
    run.execute()
    return run, events


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Event]]:
    folder = tmp_path_factory.mktemp("run") / "one"
    return run_tiny(folder, ON_CPU)


def test_ends_with_every_figure(finished: tuple[Run, list[Event]]) -> None:
    result = finished[0].result
    assert result is not None
    assert result.state == "done", result.message
    for accuracy in (result.student_accuracy, result.student_alone_accuracy, result.ensemble_accuracy):
        assert accuracy is not None
        assert 0 < accuracy <= 1
    assert [t.name for t in result.teachers] == ["resnet8-s0", "resnet14-s1"]
    assert sum(t.logit_weight for t in result.teachers) == pytest.approx(1)
    assert sum(t.feature_weight for t in result.teachers) == pytest.approx(1)
    assert result.images_per_second > 0


def test_folder_tells_it_all(finished: tuple[Run, list[Event]]) -> None:
    run, events = finished
    folder = run.dir
    assert load_preset(folder.preset) == run.preset
    assert json.loads(folder.result.read_text())["student_accuracy"] == run.result.student_accuracy
    meta = json.loads(folder.meta.read_text())
    assert meta["seed"] == 0
    assert torch.__version__.startswith(meta["versions"]["torch"])
    lines = folder.events.read_text().splitlines()
    assert [from_line(line) for line in lines] == events
    assert isinstance(events[0], RunStarted)
    assert json.loads(lines[0])["schema"] == 1
    assert isinstance(events[-1], RunEnded)
    phases = [(e.phase, e.index) for e in events if isinstance(e, PhaseStarted)]
    assert phases == [("teacher", 0), ("teacher", 1), ("alone", 0), ("distil", 0)]


def test_student_file_holds_the_student_that_was_measured(finished: tuple[Run, list[Event]]) -> None:
    run, _ = finished
    with safetensors.safe_open(run.dir.student, "pt") as file:
        facts = file.metadata()
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
    assert facts["arch"] == "resnet8"
    model = build_model(facts["arch"], int(facts["channels"]), len(json.loads(facts["classes"])))
    model.load_state_dict(weights)
    from sklearn.datasets import load_digits

    from engine.randomness import permutation

    bunch = load_digits()
    test = permutation(len(bunch.target), 0, "digits test split")[1200:]
    mean, std = json.loads(facts["mean"])[0], json.loads(facts["std"])[0]
    pixels = (torch.from_numpy(bunch.images[test.numpy()] * 15).float().unsqueeze(1) - mean) / std
    right = (model.eval()(pixels).logits.argmax(1) == torch.from_numpy(bunch.target[test.numpy()])).float().mean()
    assert float(right) == pytest.approx(run.result.student_accuracy)


def test_same_seed_gives_the_same_metrics_to_the_bit(tmp_path: Path, finished: tuple[Run, list[Event]]) -> None:
    def weights(run: Run) -> dict[str, bytes]:
        return {name: value.numpy().tobytes() for name, value in safetensors.torch.load_file(run.dir.student).items()}

    def exact(events: list[Event]) -> list[dict]:
        return [
            {name: value for name in e.__dataclass_fields__ if name != "t" for value in [getattr(e, name)]}
            for e in events
            if isinstance(e, EpochEnded)
        ]

    again, events = run_tiny(tmp_path / "again", ON_CPU)
    assert exact(events) == exact(finished[1])
    assert weights(again) == weights(finished[0])
    other, _ = run_tiny(tmp_path / "other", ON_CPU, "seed=1", store=again.store.root)
    assert weights(other) != weights(again)
    # Another seed of the student asks for the same teachers.
    assert [t.source for t in other.result.teachers] == ["store", "store"]
    assert [t.accuracy for t in other.result.teachers] == [t.accuracy for t in again.result.teachers]


def test_metric_lines_are_at_most_ten_a_second(finished: tuple[Run, list[Event]]) -> None:
    for phase in (("teacher", 0), ("teacher", 1), ("alone", 0), ("distil", 0)):
        times = [e.t for e in finished[1] if isinstance(e, Metrics) and (e.phase, e.index) == phase]
        assert times
        gaps = [later - earlier for earlier, later in pairwise(times[:-1])]  # the last comes when it is over
        assert all(gap >= 0.099 for gap in gaps)


@pytest.mark.parametrize("method", ["{name: aver}", "{name: ce}", "{name: kd}"])
def test_every_method_runs(tmp_path: Path, method: str) -> None:
    overrides = [f"method={method}", "train.epochs=1"]
    if "kd" in method:
        overrides.append("teachers=[{arch: resnet8, train: {epochs: 1, batch_size: 32}}]")
    run, events = run_tiny(tmp_path / "run", *overrides)
    assert run.result.state == "done", run.result.message
    last = next(e for e in reversed(events) if isinstance(e, EpochEnded) and e.phase == "distil")
    expected = {"{name: aver}": (0.5, 0.5), "{name: ce}": (), "{name: kd}": (1.0,)}[method]
    assert last.logit_weights == pytest.approx(expected)
    assert (run.result.student_alone_accuracy is None) == ("ce" in method)


def test_bf16_trains(tmp_path: Path) -> None:
    run, events = run_tiny(tmp_path / "run", "hardware.precision=bf16", "train.epochs=2")
    assert run.result.state == "done", run.result.message
    last = next(e for e in reversed(events) if isinstance(e, EpochEnded) and e.phase == "distil")
    assert last.feature_gradient > 0


def test_pause_resume_checkpoint_and_stop_from_another_thread(tmp_path: Path) -> None:
    run = Run(tiny("train.epochs=100000", "evaluate.student_alone=false"), tmp_path / "run", store=tmp_path / "store")
    seen: list[Event] = []
    changed = threading.Condition()

    def listen(event: Event) -> None:
        with changed:
            seen.append(event)
            changed.notify_all()

    def wait_for(test) -> None:
        with changed:
            assert changed.wait_for(lambda: any(test(e) for e in seen), timeout=60)

    run.subscribe(listen)
    run.start()
    wait_for(lambda e: isinstance(e, Metrics) and e.phase == "distil")
    run.control.pause()
    wait_for(lambda e: isinstance(e, Acknowledged) and e.command == "pause")
    steps = len(seen)
    run.control.checkpoint()
    wait_for(lambda e: isinstance(e, CheckpointSaved))
    assert not any(isinstance(e, Metrics) for e in seen[steps:])  # nothing is trained while paused
    run.control.resume()
    wait_for(lambda e: isinstance(e, Acknowledged) and e.command == "resume")
    count = len(seen)
    with changed:
        assert changed.wait_for(lambda: any(isinstance(e, Metrics) for e in seen[count:]), timeout=60)
    run.control.stop()
    result = run.join(60)
    assert result is not None
    assert result.state == "stopped"
    assert run.dir.student.exists()
    for path in run.dir.checkpoints.iterdir():
        tensors, facts = load_checkpoint(path)
        assert facts["phase"] == "distil"
        assert any(name.startswith("method.nets.") for name in tensors)


def test_a_checkpoint_goes_on_to_the_bit(tmp_path: Path) -> None:
    """Stop in mid-epoch, load into a new trainer, and end where an uninterrupted run ends."""
    from support.training import make_trainer

    whole = make_trainer(tiny())
    whole.run()

    class EnoughError(Exception):
        pass

    def stop(trainer) -> None:
        if trainer.step == 7:
            raise EnoughError

    first = make_trainer(tiny(), stop)
    with pytest.raises(EnoughError):
        first.run()
    tensors, facts = first.state()
    second = make_trainer(tiny())
    second.load_state({name: value.clone() for name, value in tensors.items()}, json.loads(json.dumps(facts)))
    assert second.step == 7
    second.run()
    for (name, value), other in zip(whole.state()[0].items(), second.state()[0].values(), strict=True):
        assert torch.equal(value, other), name


def test_loss_that_is_not_finite_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    run, events = run_tiny(tmp_path / "run", "train.lr=100", "train.epochs=20", "evaluate.student_alone=false")
    assert run.result.state == "failed"
    assert "finite number" in run.result.message
    assert "train.lr" in run.result.message
    assert not run.result.mistake
    assert events[-1].state == "failed"
    assert json.loads(run.dir.result.read_text())["state"] == "failed"


def test_a_mistake_leaves_no_folder(tmp_path: Path) -> None:
    run, _ = run_tiny(tmp_path / "run", "train.batch_size=200", "method.meta.buffer_size=200")
    assert run.result.mistake
    assert "160 training images" in run.result.message
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_does_not_fit_is_found_before_anything_is_trained(tmp_path: Path) -> None:
    safetensors.torch.save_file(build_model("resnet20", 1, 10).state_dict(), tmp_path / "t.safetensors")
    run, events = run_tiny(tmp_path / "run", f"teachers.1={{arch: resnet14, checkpoint: {tmp_path}/t.safetensors}}")
    assert run.result.mistake
    assert "does not fit resnet14" in run.result.message
    assert not events
    assert not (tmp_path / "run").exists()


def test_a_teacher_from_a_checkpoint(tmp_path: Path) -> None:
    safetensors.torch.save_file(build_model("resnet20", 1, 10).state_dict(), tmp_path / "t.safetensors")
    given = [f"teachers.1={{arch: resnet20, checkpoint: {tmp_path}/t.safetensors}}", "train.epochs=1"]
    run, events = run_tiny(tmp_path / "refused", *given)
    assert run.result.mistake  # random weights guess
    assert f"teacher t ({tmp_path}/t.safetensors) is no better than guessing on digits" in run.result.message
    assert "evaluate.accept_weak_teachers" in run.result.message
    assert not any(isinstance(e, PhaseStarted) for e in events)  # those given are measured first
    run, events = run_tiny(tmp_path / "run", *given, "evaluate.accept_weak_teachers=true")
    assert run.result.state == "done", run.result.message
    ready = {e.index: e.source for e in events if isinstance(e, TeacherReady)}
    assert ready == {0: "trained", 1: "checkpoint"}


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    from engine.run_dir import Lock, RunDir

    (tmp_path / "run").mkdir()
    lock = Lock(RunDir(tmp_path / "run"))
    run, _ = run_tiny(tmp_path / "run")
    assert run.result.mistake
    assert "in use" in run.result.message
    lock.release()
    run, _ = run_tiny(tmp_path / "run", "train.epochs=1")
    assert run.result.state == "done", run.result.message
    again, _ = run_tiny(tmp_path / "run")
    assert again.result.mistake
    assert "holds another run" in again.result.message


def test_engine_trains_with_no_display_library_and_imports_no_large_one_in_vain(tmp_path: Path) -> None:
    """`import engine` trains where textual, rich and typer cannot be imported, and importing it alone imports no torch. A run
    that needs none of its networks and data sets imports none of the libraries that have them.
    """
    code = f"""
import sys
for name in ("textual", "rich", "typer", "mmkd_tui"):
    sys.modules[name] = None
import engine
assert "torch" not in sys.modules
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from support.presets import ON_CPU, tiny
result = engine.Run(tiny("train.epochs=1"), Path({str(tmp_path / "run")!r}), store=Path({str(tmp_path / "store")!r})).execute()
assert result.state == "done", result.message
assert not sys.modules.keys() & {{"torchvision", "timm", "sklearn", "scipy.optimize"}}
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_camkd_refuses_a_teacher_without_a_head_before_anything_is_trained(tmp_path: Path) -> None:
    teacher = "{arch: 'torchvision:squeezenet1_1', train: {epochs: 1, batch_size: 32}}"
    preset = tiny("method={name: camkd}", f"teachers=[{teacher}, {{arch: resnet8, train: {{epochs: 1, batch_size: 32}}}}]")
    run = Run(preset, tmp_path / "run", store=tmp_path / "store")
    result = run.execute()
    assert result.state == "failed"
    assert result.message.startswith("torchvision:squeezenet1_1: this network's logits are no linear function")
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "store").exists()
