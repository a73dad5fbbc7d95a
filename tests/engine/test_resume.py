"""A run that was stopped or killed goes on in its folder, and ends to the bit as if it had never been interrupted."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from support.classroom import another_run_is_first
from support.hosts import Watched, no_process_left, wait_until
from support.presets import ON_CPU, tiny
from support.refusal import refused

from engine import Preset, Run
from engine.checkpoint import load_checkpoint
from engine.checkpoints_of_run import RunCheckpoints
from engine.events import (
    Acknowledged,
    CheckpointSaved,
    EpochEnded,
    Event,
    Log,
    Metrics,
    PhaseStarted,
    RunEnded,
    RunStarted,
    TeacherReady,
    from_line,
)
from engine.run_dir import RunDir
from engine.run_list import list_runs
from engine.run_state import RunState
from engine.spawning import respawn, spawn
from engine.trainer import Trainer

EPOCHS = 6
STEPS = 5  # of an epoch
PRESET = tiny(f"train.epochs={EPOCHS}", "evaluate.student_alone=false", "hardware.threads=1", ON_CPU)


def often(every: float) -> Preset:
    return PRESET.model_copy(update={"checkpoints": PRESET.checkpoints.model_copy(update={"every": every})})


def execute(run: Run, stop: Callable[[Event], bool] = lambda event: False) -> list[Event]:
    """Runs to the end, or asks it to stop at the first event for which `stop` is true."""
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        if stop(event):
            run.control.stop()

    run.subscribe(listen)
    run.execute()
    return events


def at(phase: str, index: int, step: int) -> Callable[[Event], bool]:
    def test(event: Event) -> bool:
        return isinstance(event, Metrics) and (event.phase, event.index) == (phase, index) and event.step >= step

    return test


def weights(folder: Path) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in safetensors.torch.load_file(folder / "student.safetensors").items()}


def epochs(events: list[Event]) -> dict[int, dict[str, Any]]:
    """The last thing said of each epoch of the distillation, without the time."""
    ended = [event for event in events if isinstance(event, EpochEnded) and event.phase == "distil"]
    return {e.epoch: {name: getattr(e, name) for name in e.__dataclass_fields__ if name not in ("kind", "t")} for e in ended}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """The same run, never interrupted; and its teachers' store."""
    folder = tmp_path_factory.mktemp("whole")
    events = execute(Run(PRESET, folder / "run", store=folder / "teachers"))
    return folder, events


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    with no_process_left(tmp_path / "runs"):
        yield tmp_path / "runs"


def assert_same(folder: Path, events: list[Event], whole: tuple[Path, list[Event]]) -> None:
    assert weights(folder) == weights(whole[0] / "run")
    expected = epochs(whole[1])
    found = epochs(events)
    assert found[EPOCHS - 1] == expected[EPOCHS - 1]
    assert all(found[epoch] == expected[epoch] for epoch in found)


def test_killed_after_a_checkpoint_it_ends_as_if_it_had_not_been(
    runs: Path, whole: tuple[Path, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMKD_TEACHERS", str(whole[0] / "teachers"))
    watched = Watched(spawn(PRESET, runs))
    watched.wait_for(at("distil", 0, 1), "the first steps")
    watched.client.request("checkpoint")
    watched.wait_for(lambda event: isinstance(event, CheckpointSaved), "a checkpoint")
    watched.wait_for(lambda event: isinstance(event, EpochEnded) and event.phase == "distil", "an epoch")
    watched.kill()
    watched.wait_for_state(RunState.CRASHED)
    assert EPOCHS - 1 not in epochs(watched.events)
    with (watched.path / "events.jsonl").open("a") as file:
        file.write('{"kind":"log","t":1.0,"mess')  # torn by the crash
    watched.client.request("stop")  # an old wish must not stop the new process

    respawn(watched.path)
    assert watched.client.state() is RunState.STARTING
    watched.wait_for(lambda event: isinstance(event, RunStarted) and event.resumed, "the new process")
    watched.wait_for_state(RunState.FINISHED)
    wait_until(lambda: watched.seen(lambda event: isinstance(event, RunEnded)), "its last event")
    begun = [event for event in watched.events if isinstance(event, PhaseStarted)]
    assert [event.phase for event in begun] == ["distil", "distil"]
    assert begun[1].step > 0
    assert {e.source for e in watched.events if isinstance(e, TeacherReady)} == {"store"}
    assert_same(watched.path, watched.events, whole)
    lines = (watched.path / "events.jsonl").read_text().splitlines()
    assert sum(from_line(line) is None for line in lines) == 1
    assert not list((watched.path / "checkpoints").iterdir())
    (summary,) = list_runs(runs)
    assert (summary.state, summary.share) == (RunState.FINISHED, 1.0)
    meta = json.loads((watched.path / "meta.json").read_text())
    assert len(meta["resumed"]) == 1
    assert meta["begun_by"] != meta["argv"]
    assert "--resume" in meta["argv"]
    assert "--resume" not in meta["begun_by"]


def stopped(folder: Path, preset: Preset, store: Path, stop: Callable[[Event], bool]) -> list[Event]:
    run = Run(preset, folder, store=store)
    events = execute(run, stop)
    assert run.result is not None
    assert run.result.state == "stopped"
    return events


def test_a_stopped_run_goes_on_again_and_again(tmp_path: Path, whole: tuple[Path, list[Event]]) -> None:
    """Stopped in the second teacher, in an evaluation, in mid-epoch; the first teacher is found in the store."""
    folder, store = tmp_path / "run", tmp_path / "store"
    stopped(folder, PRESET, store, at("teacher", 1, 1))
    run = Run(PRESET, folder, store=store, resume=True)
    # The last metrics of a phase come before its last evaluation; a wish put in then is read in that evaluation.
    events = execute(run, lambda event: isinstance(event, EpochEnded) and event.phase == "distil" and event.epoch == 1)
    assert run.result is not None
    assert run.result.state == "stopped"
    begun = [(event.phase, event.index, event.step > 0) for event in events if isinstance(event, PhaseStarted)]
    assert begun == [("teacher", 1, True), ("distil", 0, False)]
    run = Run(PRESET, folder, store=store, resume=True)
    events += execute(run, at("distil", 0, 4 * STEPS))
    run = Run(PRESET, folder, store=store, resume=True)
    events += execute(run)
    assert run.result is not None
    assert run.result.state == "done", run.result.message
    assert_same(folder, events, whole)
    assert [teacher.accuracy for teacher in run.result.teachers] == [
        event.accuracy for event in whole[1] if isinstance(event, TeacherReady)
    ]


@pytest.mark.parametrize("trouble", ["another run is first", "no room in the store"])
def test_a_run_whose_teachers_are_not_in_the_store_goes_on_with_their_bits(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU: what is trained anew comes to other bits."""
    folder, store = tmp_path / "run", tmp_path / "store"
    with monkeypatch.context() as context:
        if trouble == "another run is first":
            another_run_is_first(context)
        else:
            refused(context, "mkdir", store, errno.EDQUOT)
        stopped(folder, PRESET, store, at("distil", 0, 2 * STEPS))
    begin = Run._begin

    def begin_in_other_bits(run: Run, trainer: Trainer) -> None:
        if trainer.phase.name == "teacher":
            with torch.no_grad():
                trainer.parameters[0].mul_(1 + 2e-3)
        begin(run, trainer)

    monkeypatch.setattr(Run, "_begin", begin_in_other_bits)
    run = Run(PRESET, folder, store=store, resume=True)
    events = execute(run)
    assert run.result is not None
    assert run.result.state == "done", run.result.message
    assert [event.phase for event in events if isinstance(event, PhaseStarted)] == ["distil"]
    assert {event.source for event in events if isinstance(event, TeacherReady)} == {"store"}


def test_stopped_in_an_evaluation_the_epochs_averages_are_whole(tmp_path: Path, whole: tuple[Path, list[Event]]) -> None:
    folder, store = tmp_path / "run", whole[0] / "teachers"
    run = Run(PRESET, folder, store=store)
    poll = run._poll

    def stop_in_evaluation(trainer: Any) -> None:
        if trainer.phase.name == "distil" and trainer.epoch == 2 and trainer.step_in_epoch == STEPS:
            run.control.stop()
        poll(trainer)

    run._poll = stop_in_evaluation  # type: ignore[method-assign]
    execute(run)
    (checkpoint,) = (folder / "checkpoints").iterdir()
    assert checkpoint.name == f"distil-0-step-{3 * STEPS:06d}"
    events = execute(Run(PRESET, folder, store=store, resume=True))
    assert_same(folder, events, whole)


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_is_used(tmp_path: Path, whole: tuple[Path, list[Event]]) -> None:
    folder, store = tmp_path / "run", whole[0] / "teachers"
    run = Run(often(every=0), folder, store=store)
    events = execute(run, at("distil", 0, 2 * STEPS))
    assert sum(isinstance(event, CheckpointSaved) for event in events) > 2
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert len(names) == 2  # the newest two
    (folder / "checkpoints" / ".distil-0-step-000001.7.partial").mkdir()  # of a process that was killed
    (folder / ".student.safetensors.x1y2.partial").write_bytes(b"half")
    tensors = folder / "checkpoints" / names[1] / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    events = execute(Run(PRESET, folder, store=store, resume=True))
    (begun,) = [event for event in events if isinstance(event, PhaseStarted)]
    assert begun.step == int(names[0][-6:])
    assert any(isinstance(event, Log) and event.level == "warning" and names[1] in event.message for event in events)
    (left,) = (folder / "checkpoints").iterdir()
    assert left.name.startswith(f"damaged-{names[1]}")
    assert not list(folder.glob(".*.partial"))
    assert_same(folder, events, whole)


def test_a_read_error_ends_the_resume_and_costs_nothing(
    tmp_path: Path, whole: tuple[Path, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = tmp_path / "run", whole[0] / "teachers"
    stopped(folder, PRESET, store, at("distil", 0, 3))
    run = Run(PRESET, folder, store=store, resume=True)
    with monkeypatch.context() as context:
        refused(context, "list", folder / "checkpoints", errno.ESTALE)
        execute(run)
    assert run.result is not None
    assert (run.result.state, run.result.mistake) == ("failed", True)
    assert run.result.message == (
        f"{folder / 'checkpoints'} cannot be read now: {os.strerror(errno.ESTALE)}; nothing was changed: mmkd resume tries again"
    )
    events = execute(Run(PRESET, folder, store=store, resume=True))
    (begun,) = [event for event in events if isinstance(event, PhaseStarted)]
    assert begun.step >= 3
    assert_same(folder, events, whole)


def test_with_no_usable_checkpoint_the_phase_begins_anew(tmp_path: Path, whole: tuple[Path, list[Event]]) -> None:
    folder, store = tmp_path / "run", whole[0] / "teachers"
    stopped(folder, PRESET, store, at("distil", 0, 3))
    for path in (folder / "checkpoints").iterdir():
        (path / "manifest.json").unlink()
    events = execute(Run(PRESET, folder, store=store, resume=True))
    (begun,) = [event for event in events if isinstance(event, PhaseStarted)]
    assert begun.step == 0
    assert_same(folder, events, whole)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path, whole: tuple[Path, list[Event]]) -> None:
    folder, store = tmp_path / "run", whole[0] / "teachers"
    stopped(folder, PRESET, store, at("distil", 0, 3))
    other = tiny("student.arch=resnet14", "train.epochs=1", "evaluate.student_alone=false", "hardware.threads=1", ON_CPU)
    run = Run(other, folder, store=store, resume=True)
    execute(run)
    assert run.result is not None
    assert run.result.mistake
    assert "student.arch was resnet8 and is resnet14" in run.result.message
    events = execute(Run(PRESET, folder, store=store, resume=True))  # nothing is lost: with its own preset it goes on
    assert_same(folder, events, whole)


def test_a_full_disk_costs_the_checkpoint_not_the_run(
    tmp_path: Path, whole: tuple[Path, list[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("engine.checkpoints_of_run.save_checkpoint", full)
    run = Run(PRESET, tmp_path / "run", store=whole[0] / "teachers")
    run.control.request("checkpoint", "mine")
    events = execute(run)
    assert run.result is not None
    assert run.result.state == "done"
    assert any(isinstance(event, Log) and event.level == "error" and "No space left" in event.message for event in events)
    assert Acknowledged(id="mine", command="checkpoint", t=0) in [
        Acknowledged(id=e.id, command=e.command, t=0) for e in events if isinstance(e, Acknowledged)
    ]


def test_only_a_run_that_is_there_and_not_finished_is_gone_on_with(tmp_path: Path, whole: tuple[Path, list[Event]]) -> None:
    for folder, fragment in ((whole[0] / "run", "finished"), (tmp_path / "nowhere", "no run's folder")):
        run = Run(PRESET, folder, store=whole[0] / "teachers", resume=True)
        execute(run)
        assert run.result is not None
        assert fragment in run.result.message
    assert RunDir(whole[0] / "run").result.exists()
    assert not (tmp_path / "nowhere").exists()


def test_a_checkpoint_between_two_renames_is_found(tmp_path: Path) -> None:
    from support.training import make_trainer

    said: list[Event] = []
    checkpoints = RunCheckpoints(tmp_path, said.append)
    trainer = make_trainer(PRESET)
    checkpoints.save(trainer)
    (path,) = tmp_path.iterdir()
    path.rename(path.with_name(f".{path.name}.old"))
    assert load_checkpoint(path)
    checkpoints.take_up(make_trainer(PRESET))
    assert "goes on from" in said[-1].message
    checkpoints.forget(trainer.phase)
    assert list(tmp_path.iterdir()) == []
