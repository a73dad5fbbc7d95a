"""What a machine does to a run: too little memory, a full disk, a folder that is taken away, signals at any moment."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from support.hosts import Watched, wait_until
from support.nfs import mounted_at
from support.presets import tiny
from support.training import make_trainer

import engine.run
import engine.teachers.train
from engine import Run
from engine.checkpoint import load_checkpoint, save_checkpoint
from engine.checkpoints_of_run import RunCheckpoints
from engine.control import TOGETHER
from engine.errors import TrainingError, UserError
from engine.events import CheckpointSaved, EpochEnded, Event, Log, Metrics, RunEnded, TeacherReady, from_line
from engine.folder_watch import FolderWatch
from engine.measure import logits_of
from engine.paths import write_whole
from engine.preset_yaml import dump_preset
from engine.run_client import DirectoryClient
from engine.run_dir import Lock, RunDir
from engine.run_state import RunState
from engine.serving import serve
from engine.spawning import spawn
from engine.teachers.cache_part import CHUNK, FileWriter, Layout, PartFile
from engine.teachers.store import TeacherStore
from mmkd_tui.cli.main import run_command
from mmkd_tui.settings import Settings, load_settings, save_settings

OVERRIDES = ("evaluate.student_alone=false", "hardware.threads=1", "hardware.device=cpu", "method={name: aver}")
PRESET = tiny(*OVERRIDES)
OFTEN = tiny(*OVERRIDES, "checkpoints.every=0")
ENDLESS = tiny("evaluate.student_alone=false", "hardware.threads=1", "train.epochs=100000")
ON_CPU = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes. "
    "Error code 12 (Cannot allocate memory)"
)
TOO_LITTLE = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1.95 GiB. See documentation"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the teachers of these presets."""
    store = tmp_path_factory.mktemp("store")
    result = Run(PRESET, tmp_path_factory.mktemp("first") / "run", store=store).execute()
    assert result.state == "done", result.message
    return store


def execute(run: Run, on: Callable[[Event], object] = lambda event: None) -> list[Event]:
    events: list[Event] = []

    def listen(event: Event) -> None:
        events.append(event)
        on(event)

    run.subscribe(listen)
    run.execute()
    assert run.result is not None
    return events


def result_of(run: Run) -> engine.run.Result:
    assert run.result is not None
    assert "Traceback" not in (run.dir.console.read_text() if run.dir.console.exists() else "")
    return run.result


# Too little memory on the device

SHORT = tiny("train.epochs=2", "method.meta.buffer_size=32")


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, torch.Tensor]:
    """Where a training of `SHORT` ends."""
    trainer = make_trainer(SHORT)
    trainer.run()
    return trainer.state()[0]


@pytest.mark.parametrize(
    ("where", "error", "told"),
    [
        ("meta_gradient", torch.OutOfMemoryError(TOO_LITTLE), "CUDA out of memory. Tried to allocate 2.00 GiB"),
        (
            "step",
            RuntimeError(ON_CPU),
            "can't allocate memory: you tried to allocate 4096 bytes. Error code 12 (Cannot allocate memory)",
        ),
        *(
            pytest.param(name, MemoryError("no room"), "no room", marks=pytest.mark.slow)
            for name in ("after the meta-gradient", "teachers")
        ),
    ],
)
def test_out_of_memory_is_one_message_and_a_checkpoint_from_before_the_step(
    where: str, error: Exception, told: str, uninterrupted: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    at = 5  # of a step with a meta step, in the middle of the second epoch
    trainer = make_trainer(SHORT)
    trainer.keeper = RunCheckpoints(tmp_path, lambda event: None)

    def wrapped(real: Callable[..., Any], after: bool = False) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            found = real(*args)  # what it changes is changed by then
            if trainer.step == at:
                raise error
            return found

        return call

    owner: Any = trainer.panel if where == "teachers" else trainer.method
    name = {"teachers": "of", "after the meta-gradient": "learn"}.get(where, where)
    if name == "learn":  # before it learns

        def learn(found: object) -> None:
            if trainer.step == at:
                raise error
            type(trainer.method).learn(trainer.method, found)  # type: ignore[arg-type]

        owner.learn = learn
    else:
        setattr(owner, name, wrapped(getattr(owner, name)))
    with pytest.raises(TrainingError) as caught:
        trainer.run()
    message = str(caught.value)
    assert message == (
        f"out of memory in a training step of tiny (step {at + 1}) with train.batch_size 32 ({told}); "
        "train.batch_size: 16 would need about half; "
        f"what was trained is in checkpoints/distil-0-step-{at:06d}"
    )
    assert caught.value.__cause__ is None
    tensors, facts = load_checkpoint(tmp_path / f"distil-0-step-{at:06d}")
    second = make_trainer(SHORT)
    second.load_state(tensors, facts)
    second.run()
    found = second.state()[0]
    assert uninterrupted.keys() == found.keys()
    assert [name for name in found if not torch.equal(uninterrupted[name], found[name])] == []


def test_out_of_memory_in_an_evaluation_names_its_own_batch(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(PRESET, tmp_path / "run", store=store)
    epochs: list[int] = []

    def watch(event: Event) -> None:
        if isinstance(event, EpochEnded) and event.phase == "distil":
            epochs.append(event.epoch)

    def too_much(model: Any, *args: Any) -> Any:
        def forward(images: Any) -> Any:
            raise torch.OutOfMemoryError(TOO_LITTLE)

        if len(epochs) == 2:
            monkeypatch.setattr(model, "forward", forward)
        return logits_of(model, *args)

    monkeypatch.setattr("engine.trainer.logits_of", too_much)
    execute(run, watch)
    result = result_of(run)
    assert (result.state, result.mistake) == ("failed", False)
    assert "evaluate.batch_size 512" in result.message
    assert "evaluate.batch_size: 256 would need about half" in result.message
    assert "checkpoints/distil-0-step-000015" in result.message
    monkeypatch.undo()
    # A smaller batch there changes no result: the run may go on with it.
    again = Run(tiny(*OVERRIDES, "evaluate.batch_size=256"), tmp_path / "run", store=store, resume=True)
    execute(again)
    assert result_of(again).state == "done", result_of(again).message


def test_out_of_memory_anywhere_else_in_a_training_leaves_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(SHORT)
    trainer.keeper = RunCheckpoints(tmp_path, lambda event: None)

    def too_much(*_: object) -> None:
        raise RuntimeError(ON_CPU)

    monkeypatch.setattr("engine.trainer.measured", too_much)
    step = f"distil-0-step-{trainer.steps_per_epoch:06d}"
    with pytest.raises(TrainingError, match=rf"^out of memory \(can't allocate .*; what was trained is in checkpoints/{step}$"):
        trainer.run()
    assert load_checkpoint(tmp_path / step)


# A full disk


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_older_checkpoints_make_room_for_a_new_one_and_the_newest_never_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[Event] = []
    checkpoints, trainer = RunCheckpoints(tmp_path, said.append), make_trainer(PRESET)

    def small_disk(target: Path, *args: Any) -> None:
        save_checkpoint(target, *args)
        if len(list(tmp_path.iterdir())) > room:
            shutil.rmtree(target)
            full()

    monkeypatch.setattr("engine.checkpoints_of_run.save_checkpoint", small_disk)

    def saved(step: int) -> list[str]:
        trainer.epoch, trainer.step_in_epoch = divmod(step, trainer.steps_per_epoch)
        checkpoints.save(trainer)
        return sorted(path.name[-1] for path in tmp_path.iterdir())

    room = 2
    assert [saved(1), saved(2), saved(3)] == [["1"], ["1", "2"], ["2", "3"]]
    room = 1
    assert saved(4) == ["3"]  # the older one went, and that was not enough
    assert isinstance(said[-1], Log)
    assert "No space left on device; the one before it stays" in said[-1].message
    assert saved(5) == ["3"]


@pytest.mark.parametrize("ends", ["with room", "without"])
def test_a_student_that_cannot_be_written_is_written_at_the_end(
    ends: str, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(PRESET, tmp_path / "run", store=store)
    monkeypatch.setattr("engine.student_file.write_whole", full)

    def make_room(event: Event) -> None:
        if isinstance(event, EpochEnded) and event.phase == "distil" and event.epoch == 2 and ends == "with room":
            monkeypatch.setattr("engine.student_file.write_whole", write_whole)

    # The best epoch's student is written before this listener is told of the epoch.
    events = execute(run, make_room)
    result = result_of(run)
    told = [event.message for event in events if isinstance(event, Log) and event.level == "error"]
    assert any("student.safetensors could not be written: No space left" in message for message in told)
    assert run.dir.student.exists() == (ends == "with room")
    assert (result.state == "done") == (ends == "with room")
    if ends == "without":
        assert "No space left" in result.message
        monkeypatch.undo()
        again = Run(PRESET, tmp_path / "run", store=store, resume=True)
        execute(again)
        assert result_of(again).state == "done"
        assert run.dir.student.exists()


@pytest.mark.parametrize("what", ["preset.yaml", "meta.json", "result.json"])
def test_a_file_that_cannot_be_written_fails_the_run_in_one_message(
    what: str, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine import paths

    def picky(target: Path, content: str | bytes) -> None:
        if target.name == what:
            full()
        write_whole(target, content)

    monkeypatch.setattr(paths, "write_whole", picky)
    monkeypatch.setattr("engine.run_dir.write_whole", picky)
    run = Run(OFTEN, tmp_path / "run", store=store)
    execute(run)
    result = result_of(run)
    assert result.state == "failed"
    assert "No space left on device" in result.message
    assert not (run.dir.path / what).exists()
    if what == "result.json":
        assert "mmkd resume goes on from its last checkpoint" in result.message
        newest = sorted(run.dir.checkpoints.iterdir())[-1]
        assert load_checkpoint(newest)[1]["epoch"] == 2
        monkeypatch.undo()
        again = Run(PRESET, tmp_path / "run", store=store, resume=True)
        execute(again)
        assert result_of(again).state == "done"


@pytest.mark.parametrize("before", [True, False], ids=["a checkpoint before", "none before"])
def test_a_stop_that_could_not_be_saved_says_what_is_lost(
    before: bool, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(OFTEN if before else PRESET, tmp_path / "run", store=store)

    def stop(event: Event) -> None:
        if isinstance(event, EpochEnded) and event.epoch == 1:
            monkeypatch.setattr("engine.checkpoints_of_run.save_checkpoint", full)
            run.control.stop()

    execute(run, stop)
    result = result_of(run)
    assert result.state == "stopped"
    names = sorted(path.name for path in run.dir.checkpoints.glob("*"))
    assert bool(names) is before
    told = f"goes on from checkpoints/{names[-1]}" if before else "begins it anew"
    assert result.message == (f"stopped on request, but the last steps of resnet8 by aver could not be saved: mmkd resume {told}")
    assert json.loads(run.dir.result.read_text())["message"] == result.message
    monkeypatch.undo()
    again = Run(PRESET, tmp_path / "run", store=store, resume=True)
    said = [event.message for event in execute(again) if isinstance(event, Log)]
    assert result_of(again).state == "done", result_of(again).message
    assert any(before and f"goes on from checkpoints/{names[-1]}" in line for line in said) is before


def test_a_stop_loses_nothing_where_the_newest_checkpoint_was_saved_or_was_not_needed_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, trainer = RunCheckpoints(tmp_path, lambda event: None), make_trainer(PRESET)
    checkpoints.save(trainer)
    with monkeypatch.context() as context:
        context.setattr("engine.checkpoints_of_run.save_checkpoint", full)
        checkpoints.save(trainer)
        assert not checkpoints.unsaved  # it is where the newest one is
        trainer.step_in_epoch = 1
        checkpoints.save(trainer)
        assert "goes on from checkpoints/distil-0-step-000000" in checkpoints.unsaved
        trainer.parameters[0].data.fill_(torch.nan)
        trainer.step_in_epoch = 2
        checkpoints.save(trainer)
        assert "goes on from checkpoints/distil-0-step-000000" in checkpoints.unsaved
        checkpoints.forget(trainer.phase)
        assert not checkpoints.unsaved
    trainer.parameters[0].data.fill_(0.0)
    checkpoints.save(trainer)
    assert not checkpoints.unsaved


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 3 MB."""
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here (it takes root and the right to mount)")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path) -> None:
    """To the last byte."""
    with (place / "filler").open("ab", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            while True:
                try:
                    if not file.write(bytes(size)):
                        break
                except OSError:
                    break


def assert_whole(folder: RunDir) -> None:
    """Whatever there is, is whole."""
    for path in folder.path.glob("*.json"):
        if not path.name.startswith("."):
            json.loads(path.read_text())
    if folder.student.exists():
        assert safetensors.torch.load_file(folder.student)
    for checkpoint in folder.checkpoints.glob("[!.]*"):
        assert load_checkpoint(checkpoint)
    lines = folder.events.read_text().split("\n")
    assert all(from_line(line) is not None for line in lines[:-1])


class Kinds:
    """Everything that is written in one go, old and new: 1.5 MB each, so that a full disk cuts the new one off in the middle."""

    size = 1_500_000

    def __init__(self, place: Path) -> None:
        self.place, self.store = place, TeacherStore(place / "teachers")
        self.part = PartFile(place, 0, "logits", (100,), 2 * CHUNK)

    def whole_file(self, mark: int) -> None:
        write_whole(self.place / "file", bytes([mark]) * self.size)

    def read_whole_file(self) -> int | None:
        found = (self.place / "file").read_bytes()
        assert found == found[:1] * self.size
        return found[0]

    def checkpoint(self, mark: int) -> None:
        save_checkpoint(self.place / "checkpoint", {"x": torch.full((self.size // 4,), float(mark))}, {"mark": mark})

    def read_checkpoint(self) -> int | None:
        tensors, facts = load_checkpoint(self.place / "checkpoint")
        assert tensors["x"].eq(facts["mark"]).all()
        return int(facts["mark"])

    def teacher(self, mark: int) -> None:
        self.store.add(f"{mark:016x}", bytes([mark]) * self.size, {"arch": "resnet8", "accuracy": 0.5})

    def read_teacher(self) -> int | None:
        kept = [mark for mark in (1, 2) if (found := self.store.find(f"{mark:016x}")) and found[1] == bytes([mark]) * self.size]
        assert [entry.key for entry in self.store.entries()] == [f"{mark:016x}" for mark in kept]
        return kept[-1] if kept else None

    def cache(self, mark: int) -> None:
        writer = FileWriter(self.part, Layout("logits", (100,), "float32"), lambda: None)
        try:
            for _ in range(2):
                writer.write(np.full((CHUNK, 400), mark, np.uint8))
            writer.finish()
        finally:
            writer.close()

    def read_cache(self) -> int | None:
        if self.part.known() is None:
            return None
        _, rows = self.part.read(lambda: None)
        assert (rows == rows[0, 0]).all()
        return int(rows[0, 0])


@pytest.mark.parametrize("kind", ["whole_file", "checkpoint", "teacher"])
def test_a_full_disk_leaves_what_was_there_whole(kind: str, small_disk: Path) -> None:
    kinds = Kinds(small_disk)
    write, read = getattr(kinds, kind), getattr(kinds, f"read_{kind}")
    write(1)
    (small_disk / "filler").write_bytes(b"x" * 600_000)  # room for half of the new one
    with pytest.raises(OSError, match="No space left"):
        write(2)
    assert read() == 1
    (small_disk / "filler").unlink()
    write(2)
    assert read() == 2


def test_a_full_disk_leaves_no_part_of_a_teacher_cache(small_disk: Path) -> None:
    kinds = Kinds(small_disk)
    fill(small_disk)
    with pytest.raises(OSError, match="No space left"):
        kinds.cache(1)
    assert kinds.read_cache() is None
    (small_disk / "filler").unlink()
    kinds.cache(1)
    assert kinds.read_cache() == 1


def test_a_full_disk_costs_a_choice_of_the_app_and_nothing_else(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMKD_CONFIG", str(small_disk))
    assert save_settings(Settings(theme="nord"))
    fill(small_disk)
    assert not save_settings(Settings(theme="gruvbox"))
    assert load_settings().theme == "nord"


@pytest.mark.parametrize("relief", [True, False], ids=["then there is room", "for good"])
def test_a_disk_that_runs_full_under_a_run(relief: bool, small_disk: Path, store: Path) -> None:
    folder = RunDir(small_disk / "run")
    run = Run(OFTEN, folder.path, store=store)
    filled: list[int] = []

    def on(event: Event) -> None:
        # One is saved after every step; metrics come by the clock.
        if isinstance(event, CheckpointSaved) and event.path.startswith("checkpoints/distil") and event.step == 6:
            filled.append(event.step)
        if relief and isinstance(event, EpochEnded) and event.phase == "distil" and event.epoch == 1:
            assert_whole(folder)
            (small_disk / "filler").unlink()
            filled.append(0)
        elif filled and filled[-1]:
            fill(small_disk)  # others take what the run sets free

    events = execute(run, on)
    result = result_of(run)
    assert filled
    assert_whole(folder)
    errors = [event.message for event in events if isinstance(event, Log) and event.level == "error"]
    assert any("No space left" in message for message in errors)
    if relief:  # older checkpoints may have made way for new ones
        assert result.state == "done", result.message
        written = [from_line(line) for line in folder.events.read_text().splitlines()]
        # What the writer itself tells comes in the middle of an event.
        assert sorted(written, key=attrgetter("t")) == sorted(events, key=attrgetter("t"))
    else:
        assert any("checkpoint" in message and "No space left" in message for message in errors)
        assert (result.state, result.mistake) == ("failed", False)
        assert "No space left" in result.message
        assert not folder.result.exists()
        assert list(folder.checkpoints.glob("[!.]*"))
        assert DirectoryClient(folder.path).state() is RunState.CRASHED
        (small_disk / "filler").unlink()
        again = Run(PRESET, folder.path, store=store, resume=True)
        execute(again)
        assert result_of(again).state == "done"


def test_a_run_that_has_no_room_to_begin_says_where_and_leaves_nothing(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    runs = small_disk / "runs"
    runs.mkdir()
    monkeypatch.chdir(small_disk.parent)
    Path("tiny.yaml").write_text(dump_preset(PRESET))
    fill(small_disk)
    assert run_command(["run", "tiny.yaml", "--runs-dir", str(runs), "--json", "--quiet"]) == 1
    out, err = capfd.readouterr()
    assert json.loads(out)["state"] == "failed"
    assert str(runs) in err
    assert "cannot be written: No space left on device; make room there, or name another place with --runs-dir" in err
    with pytest.raises(UserError, match="No space left on device; make room there"):
        spawn(PRESET, runs)
    assert list(runs.iterdir()) == []


def test_what_lay_in_a_folder_before_stays_where_a_run_has_no_room_to_begin(small_disk: Path, store: Path) -> None:
    own = small_disk / "own"
    own.mkdir()
    (own / "preset.yaml").write_text("mine")
    fill(small_disk)
    run = Run(PRESET, own, store=store)
    execute(run)
    assert result_of(run).state == "failed"
    assert (own / "preset.yaml").read_text() == "mine"


def test_a_store_on_a_full_disk_costs_the_teachers_their_place_there_and_nothing_else(small_disk: Path, tmp_path: Path) -> None:
    store = small_disk / "teachers"
    store.mkdir()
    fill(small_disk)
    run = Run(PRESET, tmp_path / "run", store=store)
    events = execute(run)
    assert result_of(run).state == "done", result_of(run).message
    warnings = [event.message for event in events if isinstance(event, Log) and event.level == "warning"]
    assert sum("could not be kept" in message and "No space left" in message for message in warnings) == 2
    assert list(store.iterdir()) == []


def test_on_a_full_disk_a_run_still_gives_signs_of_life(small_disk: Path) -> None:
    from engine.serving import _Loop

    folder = RunDir(small_disk)
    run = Run(PRESET, folder.path)
    loop = _Loop(run, None)
    loop.position = {"phase": "distil", "step": 3}
    loop._heartbeat()
    before = folder.heartbeat.read_text()
    os.utime(folder.heartbeat, (1.0, 1.0))
    fill(small_disk)
    loop.beat, loop.position["step"] = 0.0, 10**100  # it would be longer
    loop._heartbeat()
    assert folder.heartbeat.read_text() == before
    assert folder.heartbeat.stat().st_mtime > 1.0
    assert sorted(path.name for path in small_disk.iterdir()) == ["filler", "heartbeat.json"]


@pytest.mark.parametrize("kind", ["nfs", "ext4"])
def test_on_a_network_events_are_sent_with_each_heartbeat(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine, which cannot see the lock, would take the run for silent."""
    from engine.serving import _Loop

    mounted_at(monkeypatch, tmp_path, kind)
    loop = _Loop(Run(PRESET, tmp_path / "run"), None)
    loop.run.dir.path.mkdir()
    loop.run.dir.events.touch()
    loop.position = {"phase": "distil", "step": 3}
    events = loop.run.dir.events.stat()
    sent: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda handle: sent.append(os.path.samestat(os.fstat(handle), events)))
    loop._heartbeat()
    loop._heartbeat()  # too early
    loop.beat = 0.0
    loop._heartbeat()
    assert sent == [True] * (2 if kind == "nfs" else 0)

    def broken(handle: int) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(os, "fsync", broken)
    loop.beat = 0.0
    loop._heartbeat()
    loop.run.dir.events.unlink()
    loop.beat = 0.0
    loop._heartbeat()


def test_a_wish_that_a_full_disk_tore_spoils_no_other(small_disk: Path) -> None:
    from engine.errors import UserError

    folder, client = RunDir(small_disk), DirectoryClient(small_disk)
    folder.control.write_text("x" * 4060 + "\n")  # a page with room for a part of a line
    fill(small_disk)
    with pytest.raises(UserError, match="No space left"):
        client.request("stop")
    (small_disk / "filler").unlink()
    client.request("pause")
    lines = [line for line in folder.control.read_text().split("\n")[1:] if line.endswith("}")]
    assert [json.loads(line)["command"] for line in lines] == ["pause"]


# The folder


def test_what_becomes_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    watch = FolderWatch(tmp_path / "run")
    assert watch.why_gone() is None
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    assert "deleted or moved away" in str(watch.why_gone())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "new").mkdir()  # another folder of that name
    assert "deleted or moved away" in str(watch.why_gone())
    watch._looked -= 10
    with pytest.raises(TrainingError):
        watch.look()


def test_a_folder_that_is_deleted_ends_the_run_and_does_not_come_back(tmp_path: Path, store: Path) -> None:
    run = Run(ENDLESS, tmp_path / "run", store=store)

    def delete(event: Event) -> None:
        if isinstance(event, Metrics) and event.phase == "distil" and run.dir.path.exists():
            shutil.rmtree(run.dir.path)

    execute(run, delete)
    assert (run.result.state, run.result.mistake) == ("failed", False)  # type: ignore[union-attr]
    assert "deleted or moved away" in run.result.message  # type: ignore[union-attr]
    assert not run.dir.path.exists()


def test_nothing_that_a_run_writes_brings_its_folder_back(tmp_path: Path) -> None:
    gone = RunDir(tmp_path / "run")
    writes: list[Callable[[], object]] = [
        lambda: gone.write_json(gone.result, {}),
        lambda: write_whole(gone.student, b""),
        lambda: save_checkpoint(gone.checkpoints / "distil-step-000001", {}, {}),
    ]
    for write in writes:
        with pytest.raises(FileNotFoundError):
            write()
    assert not gone.path.exists()


READ_ONLY = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from engine import Run
from engine.serving import exit_code, serve
from engine.events import Metrics
from support.presets import tiny
import torch.fx.experimental.symbolic_shapes  # as PyTorch does at the first meta step: its files may be root's alone
folder = Path({folder!r})
run = Run(tiny("evaluate.student_alone=false", "train.epochs=100000"), folder, store=Path({store!r}))
def protect(event):
    if isinstance(event, Metrics) and event.phase == "distil" and folder.stat().st_mode & 0o200:
        folder.chmod(0o500)
        if os.getuid() == 0:  # who may write everywhere
            os.chown(folder, 65534, 65534)
            os.setuid(65534)
run.subscribe(protect)
served = serve(run)
print(served.result.message)
sys.exit(exit_code(served))
"""


def test_a_folder_that_is_made_read_only_ends_the_run_in_one_message(store: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="mmkd-"))  # outside of what pytest keeps for this user alone
    try:
        place.chmod(0o755)
        code = READ_ONLY.format(tests=str(ROOT / "tests"), folder=str(place / "run"), store=str(store))
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        assert "cannot be written any more; make it writable, and mmkd resume goes on" in done.stdout
        assert "Traceback" not in done.stdout + done.stderr
        assert not (place / "run" / "result.json").exists()
    finally:
        shutil.rmtree(place, ignore_errors=True)


# A library that ends the process, or panics


class PanicException(BaseException):
    """What a library in Rust raises: no Exception."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PanicException("index out of bounds"), "PanicException: index out of bounds"),
        (SystemExit("no licence"), "SystemExit: no licence"),
        (KeyboardInterrupt(), "the training ended without saying why"),
    ],
    ids=lambda part: type(part).__name__,
)
def test_what_ends_a_thread_ends_the_run_as_failed(
    error: BaseException, told: str, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*_: object) -> None:
        raise error

    run = Run(PRESET, tmp_path / "run", store=store)
    monkeypatch.setattr(engine.run, "save_student", raises)
    result = serve(run).result
    assert result.state == "failed"
    assert told in result.message
    assert [teacher.source for teacher in result.teachers] == ["store", "store"]  # what it had come to
    said = json.loads(run.dir.result.read_text())
    assert (said["state"], said["message"]) == ("failed", result.message)
    assert DirectoryClient(run.dir.path).state() is RunState.FAILED
    assert any(isinstance(from_line(line), RunEnded) for line in run.dir.events.read_text().splitlines())
    Lock(run.dir).release()
    monkeypatch.undo()
    again = Run(PRESET, tmp_path / "run", store=store, resume=True)
    execute(again)
    assert again.result is not None
    assert again.result.state == "done", again.result.message


def test_what_ends_the_process_before_a_run_has_begun_is_told_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exits(*_: object) -> None:
        raise SystemExit(3)

    monkeypatch.setattr(engine.run, "load_images", exits)
    folder = RunDir(tmp_path)
    run = Run(PRESET, tmp_path, lock=Lock(folder))
    assert serve(run).result.message == "SystemExit: 3"
    assert json.loads(folder.result.read_text())["state"] == "failed"
    Lock(folder).release()


def test_a_log_that_cannot_be_written_hides_no_reason(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where so many events wait for a full disk that no more are taken."""

    def broken(*_: object) -> None:
        raise ValueError("a mistake of ours")

    def on(event: Event) -> None:
        if isinstance(event, Log) and "Traceback" in event.message:
            full()

    run = Run(PRESET, tmp_path / "run", store=store)
    run.subscribe(on)
    monkeypatch.setattr(engine.run, "save_student", broken)
    assert serve(run).result.message == "ValueError: a mistake of ours"
    assert json.loads(run.dir.result.read_text())["message"] == "ValueError: a mistake of ours"
    Lock(run.dir).release()


def test_a_ctrl_c_on_the_callers_thread_goes_through_and_frees_the_folder(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    run = Run(PRESET, tmp_path / "run", store=store)
    monkeypatch.setattr(engine.run, "save_student", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.execute()
    assert not run.dir.result.exists()
    assert DirectoryClient(run.dir.path).state() is RunState.CRASHED


# Signals


@pytest.mark.parametrize("where", ["teacher", pytest.param("teacher from the store", marks=pytest.mark.slow), "student"])
def test_a_stop_in_a_measurement_loses_nothing(where: str, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two passes, where no training is in hand; the run goes on with what was trained."""
    own = store if where != "teacher" else tmp_path / "own"
    run = Run(PRESET, tmp_path / "run", store=own)
    module = engine.run if where == "student" else engine.teachers.train

    def stopped(*args: Any) -> Any:
        run.control.stop()
        return logits_of(*args)

    monkeypatch.setattr(module, "logits_of", stopped)
    execute(run)
    assert result_of(run).state == "stopped"
    monkeypatch.undo()
    names = [path.name for path in run.dir.checkpoints.glob("*")]
    assert names == {"teacher": ["teacher-0-step-000005"], "student": ["distil-0-step-000015"]}.get(where, [])
    again = Run(PRESET, tmp_path / "run", store=own, resume=True)
    events = execute(again)
    assert result_of(again).state == "done", result_of(again).message
    trained = {(event.phase, event.step) for event in events if isinstance(event, Metrics)}
    assert not any(phase == {"student": "distil"}.get(where) for phase, _ in trained)
    whole = Run(PRESET, tmp_path / "whole", store=store)
    execute(whole)
    assert result_of(again).student_accuracy == result_of(whole).student_accuracy
    assert [teacher.accuracy for teacher in result_of(again).teachers] == [
        teacher.accuracy for teacher in result_of(whole).teachers
    ]
    assert len([event for event in events if isinstance(event, TeacherReady)]) == 2


def test_a_stop_while_data_is_loaded_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(PRESET, tmp_path / "run")
    load = engine.run.load_images

    def slow(*args: Any) -> Any:
        run.control.stop()
        return load(*args)

    monkeypatch.setattr(engine.run, "load_images", slow)
    execute(run)
    assert result_of(run).state == "stopped"
    assert not run.dir.path.exists()


DEAF = """
import sys, time
import engine.serving
import engine.trainer
engine.serving.GRACE = {grace}
real = engine.trainer.Trainer._end_epoch
def deaf(trainer):
    if trainer.phase.name == "distil" and trainer.epoch == 1:
        trainer.emit(engine.events.Log(level="info", message="deaf"))
        time.sleep(600)
    real(trainer)
engine.trainer.Trainer._end_epoch = deaf
from engine.host import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("how", ["a second signal", pytest.param("the time is over", marks=pytest.mark.slow)])
def test_a_run_that_does_not_listen_is_ended_and_says_so(how: str, tmp_path: Path, store: Path) -> None:
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    write_whole(folder.preset, dump_preset(PRESET))
    code = DEAF.format(grace=0.5 if how == "the time is over" else 1000.0)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder.path)], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"MMKD_TEACHERS": str(store)},
    )  # fmt: skip
    watched = Watched(folder.path)
    try:
        wait_until(lambda: watched.seen(lambda event: isinstance(event, Log) and event.message == "deaf"), "it to be deaf", 180)
        process.send_signal(signal.SIGHUP)  # changes nothing
        process.send_signal(signal.SIGTERM)
        if how == "a second signal":
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(TOGETHER + 0.5)  # until then it would be the same request
            process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    finally:
        process.kill()
        error = process.communicate()[1]
    assert "Traceback" not in error
    assert watched.client.state() is RunState.STOPPED
    result = watched.client.result()
    assert result is not None
    assert result["message"] == "ended at once; what was saved before is whole"
    assert_whole(folder)
    again = Run(PRESET, folder.path, store=store, resume=True)
    execute(again)
    assert result_of(again).state == "done"
