"""When a run saves, what it keeps, and that what is saved decides all that follows, for every method."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from support.presets import tiny
from support.refusal import little_memory, refused
from support.saboteur import Crash, Saboteur
from support.training import make_trainer

from engine import Preset
from engine.checkpoint import load_checkpoint
from engine.checkpoints_of_run import RunCheckpoints
from engine.compiled.pure import Pure
from engine.compiled.steps import CompiledStepper
from engine.errors import StoppedError, UnreadableError, UserError
from engine.events import CheckpointSaved, EpochEnded, Event, Log
from engine.meta.sgd import Sgd
from engine.origin import machine_of
from engine.preset import METHOD_PARTS, CheckpointsPart, TrainPart
from engine.trainer import Phase, Trainer

TEACHERS = {"ce": "teachers=[]", "kd": "teachers=[{arch: resnet8, seed: 1}]"}


def brief(*overrides: str) -> Preset:
    """Two steps of 20 images an epoch."""
    return tiny("dataset.train_images=40", "method.meta.buffer_size=25", *overrides, "train.batch_size=20")


def saved_at(asked: CheckpointsPart, folder: Path) -> tuple[list[int], list[str]]:
    """After which steps of five epochs of two, and what is left of it."""
    events: list[Event] = []
    checkpoints = RunCheckpoints(folder, events.append, asked)

    def poll(trainer: Trainer) -> None:
        if checkpoints.due(trainer):
            checkpoints.save(trainer)

    make_trainer(brief("train.epochs=5", "method={name: ce}", "teachers=[]"), poll).run()
    steps = [event.step for event in events if isinstance(event, CheckpointSaved)]
    return steps, sorted(path.name for path in folder.glob("*"))


def test_by_epochs(tmp_path: Path) -> None:
    steps, names = saved_at(CheckpointsPart(every=None, every_epochs=1, keep=3), tmp_path)
    assert steps == [2, 4, 6, 8]  # the fifth epoch is the run's end
    assert names == [f"distil-0-step-00000{step}" for step in (4, 6, 8)]
    assert saved_at(CheckpointsPart(every=None, every_epochs=2, keep=1), tmp_path)[0] == [4, 8]


def test_by_time(tmp_path: Path) -> None:
    steps, names = saved_at(CheckpointsPart(every=0, keep=1), tmp_path)
    # Once at each place: an evaluation begins after the epoch's last step, the next epoch after it.
    assert steps == [0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8, 8, 9, 10]
    assert names == ["distil-0-step-000010"]
    assert saved_at(CheckpointsPart(every=1e6), tmp_path / "never")[0] == []


def test_on_demand_alone(tmp_path: Path) -> None:
    assert saved_at(CheckpointsPart(every=None), tmp_path) == ([], [])


@pytest.mark.parametrize("method", [*METHOD_PARTS, "joint"])
def test_every_method_goes_on_to_the_bit(method: str, tmp_path: Path) -> None:
    """Stopped in an evaluation and within an epoch, by way of the disk."""
    asked = [] if method in ("mmkd", "joint") else [f"method={{name: {method}}}", TEACHERS.get(method, "description=''")]
    if method == "joint":
        asked = ["method.meta.learning=joint"]
    preset = brief("train.epochs=3", *asked)
    whole = make_trainer(preset)
    expected = _run(whole)
    place = 0
    found: list[dict[str, Any]] = []
    for stop_at in (3, 7, None):
        checkpoints = RunCheckpoints(tmp_path, lambda event: None)

        def poll(trainer: Trainer, checkpoints: RunCheckpoints = checkpoints, stop_at: int | None = stop_at) -> None:
            nonlocal place
            place += 1
            if place == stop_at:
                checkpoints.save(trainer)
                raise StoppedError

        trainer = make_trainer(preset, poll)
        checkpoints.take_up(trainer)
        found += _run(trainer)
    assert found == expected
    state = trainer.state()[0]
    assert state.keys() == whole.state()[0].keys()
    for name, value in whole.state()[0].items():
        assert torch.equal(value, state[name]), name
    assert trainer.images_trained == whole.images_trained


def _run(trainer: Trainer) -> list[dict[str, Any]]:
    events: list[Event] = []
    trainer.emit = events.append
    with contextlib.suppress(StoppedError):
        trainer.run()
    ended = [asdict(event) for event in events if isinstance(event, EpochEnded)]
    return [{name: value for name, value in event.items() if name != "t"} for event in ended]


class Ready:
    """Has uncompiled functions ready in the place of compiled ones."""

    def __init__(self, trainer: Trainer) -> None:
        self.pure = Pure(trainer.method, Sgd.of(trainer.optimizer))

    def ready(self, part: str) -> bool:
        return True

    def take(self, part: str) -> Any:
        return getattr(self.pure, part)

    def start(self) -> None: ...

    def close(self) -> None: ...


def changing_over(trainer: Trainer) -> list[str]:
    """What it tells."""
    source, told = Ready(trainer), list[str]()
    trainer.stepper = CompiledStepper(
        trainer.method, trainer.optimizer, lambda *_: source, lambda level, text: told.append(text), "on"
    )
    return told


@pytest.mark.parametrize("again", [False, True], ids=["eagerly", "and changes over again"])
def test_what_is_saved_after_the_change_over_to_compiled_steps_is_gone_on_with(again: bool, tmp_path: Path) -> None:
    preset = brief("train.epochs=4")
    expected = _run(make_trainer(preset))
    checkpoints = RunCheckpoints(tmp_path, lambda event: None, CheckpointsPart(every=0))

    def poll(trainer: Trainer) -> None:
        if trainer.step == 5:
            checkpoints.save(trainer)
            raise StoppedError

    first = make_trainer(preset, poll)
    told = changing_over(first)
    found = _run(first)
    assert [line.partition(" steps")[0] for line in told] == ["compiled training", "compiled meta"]
    second = make_trainer(preset)
    if again:
        changing_over(second)
    checkpoints.take_up(second)
    saved, loaded = first.state()[0], second.state()[0]
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    found += _run(second)
    # Not to the bit: when it changes over is a matter of time.
    assert [event["loss"] for event in found] == pytest.approx([event["loss"] for event in expected], rel=1e-3)


class Stub:
    """What checkpoints need of a trainer; its state is its step."""

    def __init__(self, step: int = 0) -> None:
        self.step, self.epoch, self.step_in_epoch = step, 0, step
        self.phase = Phase("distil", 0, "stub")
        self.parameters = [torch.zeros(1)]

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return {"all": torch.full((5,), float(self.step))}, {"step": self.step}

    def load_state(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        assert tensors["all"].tolist() == [facts["step"]] * 5
        self.step = facts["step"]


def taken_up(folder: Path, tell: Callable[[Event], None] = lambda event: None) -> int:
    """The step from which a new process would go on."""
    trainer = Stub(-1)
    checkpoints = RunCheckpoints(folder, tell)
    checkpoints.clear_leftovers()
    checkpoints.take_up(trainer)  # type: ignore[arg-type]
    return trainer.step


@pytest.mark.parametrize("again", [False, True], ids=["a new step", "the same step"])
def test_killed_at_any_call_of_saving_and_pruning_the_newest_whole_one_is_there(
    again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "checkpoints"
    new = 2 if again else 3
    found = []
    for at in range(1, 200):
        shutil.rmtree(folder, ignore_errors=True)
        checkpoints = RunCheckpoints(folder, lambda event: None)
        for step in (1, 2):
            checkpoints.save(Stub(step))  # type: ignore[arg-type]
        with monkeypatch.context() as context:
            saboteur = Saboteur(context, dead=True, at=at)
            with contextlib.suppress(Crash):
                checkpoints.save(Stub(new))  # type: ignore[arg-type]
        if saboteur.calls < at:
            break
        warnings: list[Event] = []
        found.append(taken_up(folder, warnings.append))
        assert not [event for event in warnings if isinstance(event, Log) and event.level == "warning"]
        RunCheckpoints(folder, lambda event: None).save(Stub(4))  # type: ignore[arg-type]
        assert taken_up(folder) == 4
        names = sorted(path.name for path in folder.iterdir())
        assert len(names) == 2, names
        assert all(load_checkpoint(folder / name) for name in names)
    assert at > 12
    assert found == sorted(found)
    assert {found[0], found[-1]} == {2, new}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.EACCES], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    ("call", "place"),
    [
        ("list", ""),
        ("stat", "distil-0-step-000002"),
        *(("open", f"distil-0-step-000002/{name}") for name in ("manifest.json", "facts.json", "tensors.safetensors")),
    ],
)
def test_what_cannot_be_read_now_is_neither_none_nor_damaged(
    call: str, place: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        RunCheckpoints(tmp_path, lambda event: None).save(Stub(step))  # type: ignore[arg-type]
    before = files(tmp_path)
    with monkeypatch.context() as context:
        refused(context, call, tmp_path / place, number)
        with pytest.raises(UnreadableError) as caught:
            taken_up(tmp_path)
    for fragment in (str(tmp_path / place), os.strerror(number), "nothing was changed", "again"):
        assert fragment in str(caught.value)
    assert files(tmp_path) == before
    assert taken_up(tmp_path) == 2


def test_a_checkpoint_for_which_memory_does_not_suffice_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RunCheckpoints(tmp_path, lambda event: None).save(Stub(1))  # type: ignore[arg-type]
    before = files(tmp_path)
    with monkeypatch.context() as context:
        little_memory(context, 20)
        with pytest.raises(UnreadableError, match="more than half of the memory"):
            taken_up(tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "Input/output error"), torch.OutOfMemoryError("no room")])
def test_the_machines_trouble_while_a_checkpoint_is_taken_up_is_not_its_own(error: Exception, tmp_path: Path) -> None:
    RunCheckpoints(tmp_path, lambda event: None).save(Stub(1))  # type: ignore[arg-type]
    trainer, before = Stub(), files(tmp_path)

    def load_state(*_: object) -> None:
        raise error

    trainer.load_state = load_state  # type: ignore[method-assign]
    with pytest.raises((UnreadableError, torch.OutOfMemoryError)):
        RunCheckpoints(tmp_path, lambda event: None).take_up(trainer)  # type: ignore[arg-type]
    assert files(tmp_path) == before


def test_where_the_folder_cannot_be_listed_a_new_checkpoint_is_saved_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Event] = []
    checkpoints = RunCheckpoints(tmp_path, said.append, CheckpointsPart(keep=1))
    with monkeypatch.context() as context:
        refused(context, "list", tmp_path, errno.EIO)
        for step in (1, 2):
            assert checkpoints.save(Stub(step))  # type: ignore[arg-type]
        checkpoints.forget(Stub().phase)
    assert "not deleted yet: Input/output error" in next(event.message for event in said if isinstance(event, Log))
    checkpoints.save(Stub(3))  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["distil-0-step-000003"]


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_checkpoint_of_a_higher_step_from_before_is_no_newer(tmp_path: Path) -> None:
    """Other ranks count other steps, here fewer. Where the disk is full when a run is gone on with, the old count stays."""

    class Half(Stub):
        recipe = TrainPart(batch_size=16)

        def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
            tensors, facts = super().state()
            return tensors, facts | {"ranks": 1}

        def load_state(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
            self.step = facts["step"] // (2 if facts["ranks"] == 2 else 1)

    before = Stub(1000)
    before.state = lambda: ({"all": torch.zeros(5)}, {"step": 1000, "ranks": 2})  # type: ignore[method-assign]
    RunCheckpoints(tmp_path, lambda event: None).save(before)  # type: ignore[arg-type]
    said: list[Event] = []
    trainer, checkpoints = Half(), RunCheckpoints(tmp_path, said.append, CheckpointsPart(keep=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.checkpoints_of_run.save_checkpoint", full)
        checkpoints.take_up(trainer)  # type: ignore[arg-type]
    assert trainer.step == 500
    (told,) = (event.message for event in said if isinstance(event, Log) and event.level == "warning")
    assert "16 images a step instead of 32" in told
    assert "--gpus 2" in told
    assert [path.name for path in tmp_path.iterdir()] == ["distil-0-step-001000"]
    for step in (501, 502):
        trainer.step = step
        checkpoints.save(trainer)  # type: ignore[arg-type]
        assert [path.name for path in tmp_path.iterdir()] == [f"distil-0-step-000{step}"]
    again = Half()
    RunCheckpoints(tmp_path, lambda event: None).take_up(again)  # type: ignore[arg-type]
    assert again.step == 502


def test_a_checkpoint_of_another_machine_is_told(tmp_path: Path) -> None:
    RunCheckpoints(tmp_path, lambda event: None).save(Stub(1))  # type: ignore[arg-type]
    said: list[Event] = []
    assert taken_up(tmp_path, said.append) == 1
    assert [event.level for event in said if isinstance(event, Log)] == ["info"]
    with pytest.MonkeyPatch.context() as patch:
        now = machine_of(torch.device("cpu")) | {"torch": "9.9.9"}
        patch.setattr("engine.checkpoints_of_run.machine_of", lambda device: now)
        said.clear()
        assert taken_up(tmp_path, said.append) == 1
    (warning,) = [event.message for event in said if isinstance(event, Log) and event.level == "warning"]
    assert f"torch {torch.__version__} and goes on with 9.9.9" in warning


def test_a_teachers_checkpoint_asks_nothing_of_the_students_epochs(tmp_path: Path) -> None:
    """Which are of another recipe: the teacher may have had more epochs than the student will."""
    from engine.origin import origin

    def checkpoints(epochs: int) -> RunCheckpoints:
        made = RunCheckpoints(tmp_path, lambda event: None)
        made.origin = origin(tiny(f"train.epochs={epochs}"))
        return made

    teacher = Stub(7)
    teacher.phase = Phase("teacher", 0, "stub")
    teacher.state = lambda: ({"all": torch.full((5,), 7.0)}, {"step": 7, "epoch": 50})  # type: ignore[method-assign]
    checkpoints(8).save(teacher)  # type: ignore[arg-type]
    teacher.step = 0
    checkpoints(20).take_up(teacher)  # type: ignore[arg-type]
    assert teacher.step == 7
    teacher.phase = Phase("alone", 0, "stub")
    checkpoints(8).save(teacher)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"train\.epochs was 8 and is 20"):
        checkpoints(20).take_up(teacher)  # type: ignore[arg-type]
