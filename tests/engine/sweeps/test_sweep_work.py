"""What is begun, stopped and gone on with, by an executor whose runs are scripted: every decision is made from real folders."""

from __future__ import annotations

import errno
import json
import math
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.presets import tiny
from support.refusal import refused

from engine.errors import UserError
from engine.events import EpochEnded, PhaseStarted, RunEnded, to_line
from engine.preset import Preset
from engine.preset_yaml import load_preset
from engine.run_dir import Lock, RunDir
from engine.run_state import RunState
from engine.sweeps import work as work_module
from engine.sweeps.executor import Exit, Job, state_of
from engine.sweeps.form import HalvingPart
from engine.sweeps.manifest import Listed, Manifest, SweepLock, is_worked_on, list_sweeps, read_manifest, write_manifest
from engine.sweeps.overview import Overview
from engine.sweeps.standing import Standing, networks_of
from engine.sweeps.work import Work, work_off

EPOCHS = 9
HALVING = HalvingPart(min_epochs=1, eta=3)


class Scripted:
    """Does an epoch of each run at each poll. A run's accuracy is `quality`, a little more with each epoch."""

    def __init__(self, quality: dict[str, float], capacity: int = 2, store: Path | None = None) -> None:
        self.quality, self.capacity, self.store = quality, capacity, store
        self.begun: list[str] = []
        self.most = 0  # at work at once
        self.locks: dict[str, Lock] = {}

    def submit(self, job: Job) -> Job:
        name = job.folder.name
        assert load_preset(job.folder / "preset.yaml") == job.preset
        if self.quality[name] < 0:
            raise UserError("no such thing")
        self.begun.append(name)
        run_dir = RunDir(job.folder)
        self.locks[name] = Lock(run_dir)
        run_dir.result.unlink(missing_ok=True)
        run_dir.control.unlink(missing_ok=True)
        self.most = max(self.most, len(self.locks))
        with run_dir.events.open("a") as file:
            phase = PhaseStarted(phase="distil", index=0, label="", epochs=EPOCHS, steps_per_epoch=1, parameters=1)
            file.write(to_line(phase))
        return job

    def poll(self, handle: Job) -> Exit | None:
        run_dir, name = RunDir(handle.folder), handle.folder.name
        if run_dir.control.exists():
            return self._end(handle, "stopped")
        if self.quality[name] == 0:
            return self._end(handle, "failed")
        done = run_dir.events.read_text().count("epoch_ended")
        accuracy = self.quality[name] + done / 1000
        facts = {"phase": "distil", "index": 0, "lr": 0.1, "loss": 1.0, "ce": 1.0, "accuracy": 0.5}
        event = EpochEnded(epoch=done, step=done + 1, best_accuracy=accuracy, measured_accuracy=accuracy, **facts)  # type: ignore[arg-type]
        with run_dir.events.open("a") as file:
            file.write(to_line(event))
        if self.store is not None:
            for key in networks_of(handle.preset):
                (self.store / key).mkdir(parents=True, exist_ok=True)
                (self.store / key / "facts.json").touch()
        return self._end(handle, "done") if done + 1 == EPOCHS else None

    def _end(self, handle: Job, state: str) -> Exit:
        result = {"state": state, "student_accuracy": self.quality[handle.folder.name], "message": "as it was meant to"}
        RunDir(handle.folder).result.write_text(json.dumps(result))
        self.locks.pop(handle.folder.name).release()
        return Exit(0)

    def cancel(self, handle: Job) -> None:
        (handle.folder / "control.jsonl").touch()

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_module, "TICK", 0.0)


def jobs_of(folder: Path, quality: dict[str, float], *overrides: str) -> list[Job]:
    own = [f"train.epochs={EPOCHS}", "evaluate.student_alone=false", *overrides]
    return [Job(folder / name, tiny(f"seed={number}", *own)) for number, name in enumerate(quality)]


def epochs(job: Job) -> int:
    events = job.folder / "events.jsonl"
    return events.read_text().count("epoch_ended") if events.exists() else 0


def states(works: list[Work]) -> dict[str, str]:
    return {work.job.folder.name: "held" if work.held else str(work.ended and work.ended.state) for work in works}


def test_all_are_done_as_many_at_once_as_there_is_room_and_a_second_time_does_nothing(tmp_path: Path) -> None:
    quality = {f"run-{number}": 0.5 for number in range(5)}
    jobs, executor = jobs_of(tmp_path, quality), Scripted(quality, store=tmp_path / "store")
    works = work_off(jobs, executor, store=tmp_path / "store")
    assert set(states(works).values()) == {"finished"}
    assert executor.begun == list(quality)
    assert executor.most == 2
    again = Scripted(quality)
    assert set(states(work_off(jobs, again)).values()) == {"finished"}
    assert again.begun == []


def test_one_that_fails_or_cannot_begin_does_not_end_the_others_and_is_tried_again(tmp_path: Path) -> None:
    quality = {"a": 0.5, "broken": 0.0, "refused": -1.0, "b": 0.5}
    jobs, told = jobs_of(tmp_path, quality), []
    works = work_off(jobs, Scripted(quality), tell=lambda work, change: told.append((work.job.folder.name, change)))
    assert states(works) == {"a": "finished", "broken": "failed", "refused": "failed", "b": "finished"}
    assert ("broken", "failed") in told
    messages = [work.ended.message for work in works if work.ended]
    assert messages[1:3] == ["as it was meant to", "no such thing"]
    mended = Scripted(quality | {"broken": 0.6, "refused": 0.6})
    assert set(states(work_off(jobs, mended)).values()) == {"finished"}
    assert mended.begun == ["broken", "refused"]


def test_one_that_another_process_begins_at_the_same_moment_is_waited_for(tmp_path: Path) -> None:
    class TooLate(Scripted):
        def submit(self, job: Job) -> Job:
            if job.folder.name == "a":
                lock = Lock(RunDir(job.folder))
                threading.Timer(0.6, lambda: end(job, lock)).start()
            return super().submit(job)

    def end(job: Job, lock: Lock) -> None:
        (job.folder / "result.json").write_text(json.dumps({"state": "done"}))
        lock.release()

    quality, told = {"a": 0.5, "b": 0.5}, []
    jobs = jobs_of(tmp_path, quality, "teachers=[]", "method={name: ce}")
    works = work_off(jobs, TooLate(quality), tell=lambda work, change: told.append((work.job.folder.name, change)))
    assert set(states(works).values()) == {"finished"}
    assert [change for name, change in told if name == "a"] == ["waiting", "done"]


def test_networks_that_several_runs_want_are_trained_by_one_of_them(tmp_path: Path) -> None:
    quality = {"a": 0.5, "b": 0.5, "c": 0.5}
    jobs, executor = jobs_of(tmp_path, quality), Scripted(quality, capacity=3, store=tmp_path / "store")
    jobs[1] = replace(jobs[1], preset=tiny("teachers.*.seed=7", "teachers.1.seed=8", f"train.epochs={EPOCHS}"))
    assert not networks_of(jobs[0].preset) & networks_of(jobs[1].preset)
    work_off(jobs, executor, store=tmp_path / "store")
    assert executor.begun[:2] == ["a", "b"]  # c wants the teachers that a is about to train
    assert executor.begun[2] == "c"
    assert len(networks_of(jobs[0].preset)) == 2


def test_networks_that_nobody_here_may_look_at_keep_no_run_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quality = {"a": 0.5, "b": 0.5}
    jobs, executor = jobs_of(tmp_path, quality), Scripted(quality)
    for key in networks_of(jobs[0].preset):
        refused(monkeypatch, "stat", tmp_path / "store" / key / "facts.json", errno.EACCES)
    works = work_off(jobs, executor, store=tmp_path / "store")
    assert set(states(works).values()) == {"finished"}
    assert executor.most == 2


def test_a_stop_is_passed_on_and_the_next_time_goes_on(tmp_path: Path) -> None:
    quality = {"a": 0.5, "b": 0.5, "c": 0.5}
    jobs = jobs_of(tmp_path, quality, "teachers=[]", "method={name: ce}")
    executor = Scripted(quality)
    works = work_off(jobs, executor, asked_to_stop=lambda: epochs(jobs[0]) >= 3)
    assert states(works) == {"a": "stopped", "b": "stopped", "c": "None"}
    assert [epochs(job) for job in jobs] == [3, 3, 0]
    assert (jobs[2].folder / "preset.yaml").is_file()  # folders are written before anything begins
    assert state_of(jobs[2].folder) is None
    told: list[str] = []
    works = work_off(jobs, Scripted(quality), tell=lambda work, change: told.append(change))
    assert set(states(works).values()) == {"finished"}
    assert told.count("resumed") == 2
    assert [epochs(job) for job in jobs] == [EPOCHS] * 3


def test_a_stop_that_one_run_cannot_be_told_reaches_the_others_and_is_tried_again(tmp_path: Path) -> None:
    class OnAFullDisk(Scripted):
        def cancel(self, handle: Job) -> None:
            if handle.folder.name == "a":
                raise UserError("the run cannot be told to stop: No space left on device")
            super().cancel(handle)

    quality = {"a": 0.5, "b": 0.5}
    jobs = jobs_of(tmp_path, quality, "teachers=[]", "method={name: ce}")
    works = work_off(jobs, OnAFullDisk(quality), asked_to_stop=lambda: epochs(jobs[0]) >= 3)
    assert states(works) == {"a": "stopped", "b": "stopped"}


def test_halving_stops_what_is_not_among_the_best_and_comes_to_the_same_end_when_asked_again(tmp_path: Path) -> None:
    quality = {f"run-{number}": 0.1 * (1 + (5 * number) % 9) for number in range(9)}  # 0.1 to 0.9, in no order
    jobs = jobs_of(tmp_path, quality, "teachers=[]", "method={name: ce}")
    executor = Scripted(quality, capacity=3)
    works = work_off(jobs, executor, halving=HALVING)
    assert max(map(executor.begun.count, quality)) <= 1 + len(HALVING.rungs(EPOCHS))
    best = max(quality, key=quality.__getitem__)
    assert states(works)[best] == "finished"
    assert set(states(works).values()) == {"finished", "held"}
    done = {job.folder.name: epochs(job) for job in jobs}
    worst = sorted(quality, key=quality.__getitem__)[:3]
    assert all(done[name] <= 2 for name in worst)  # an epoch, and the one in which it was asked to stop
    assert sum(done.values()) < 0.6 * 9 * EPOCHS
    again = Scripted(quality)
    assert states(work_off(jobs, again, halving=HALVING)) == states(works)
    assert again.begun == []
    # Without the rule, the same runs go on to their end.
    assert set(states(work_off(jobs, Scripted(quality))).values()) == {"finished"}


def test_of_a_run_that_is_done_only_both_ends_are_read(tmp_path: Path) -> None:
    facts = {"phase": "distil", "index": 0, "lr": 0.1, "loss": 1.0, "ce": 1.0, "accuracy": 0.5}
    phase = PhaseStarted(phase="teacher", index=0, label="", epochs=3, steps_per_epoch=1, parameters=1, t=1000.0)
    last = EpochEnded(epoch=239, step=9, best_accuracy=0.8, **facts)  # type: ignore[arg-type]
    events = tmp_path / "events.jsonl"
    events.write_text(to_line(phase))
    os.truncate(events, 40 << 30)  # what is between would take a minute to read
    with events.open("a") as file:
        file.write("\n" + to_line(last) + to_line(RunEnded(state="done")))
    (tmp_path / "result.json").write_text(json.dumps({"state": "done", "student_accuracy": 0.75, "best_accuracy": 0.8}))
    standing = Standing(tmp_path)
    standing.look()
    assert (standing.started, standing.epoch, standing.epochs, standing.best_accuracy) == (1000.0, 240, 240, 0.8)
    assert (standing.state, standing.accuracy) == (RunState.FINISHED, 0.75)


def test_what_was_done_is_not_read_again_for_the_report(tmp_path: Path) -> None:
    quality = {"a": 0.3, "b": 0.6}
    overview = Overview(Manifest(tmp_path, "some", "", HALVING, tuple(Listed(name, name, EPOCHS) for name in quality)))
    jobs = jobs_of(tmp_path, quality, "teachers=[]", "method={name: ce}")
    work_off(jobs, Scripted(quality), standings=overview.standings)
    (tmp_path / "b").rename(tmp_path / "elsewhere")
    overview.look()
    assert overview.best is not None
    assert (overview.best.folder, overview.best.epoch, overview.counts["done"]) == ("b", EPOCHS, 2)


def test_a_loss_that_became_no_number_is_the_worst_there_is(tmp_path: Path) -> None:
    facts = {
        "phase": "distil",
        "index": 0,
        "step": 1,
        "lr": 0.1,
        "loss": 1.0,
        "ce": 1.0,
        "accuracy": 0.5,
        "measured_accuracy": 0.5,
    }
    losses = enumerate((0.3, float("nan")))
    lines = [to_line(EpochEnded(epoch=epoch, measured_loss=loss, **facts)) for epoch, loss in losses]  # type: ignore[arg-type]
    (tmp_path / "events.jsonl").write_text("".join(lines))
    standing = Standing(tmp_path, (1, 2), HalvingPart(min_epochs=1, eta=2, metric="measured_loss"))
    standing.look()
    assert standing.scores == [-0.3, -math.inf]


def test_of_too_few_for_a_place_one_comes_to_the_end_all_the_same(tmp_path: Path) -> None:
    quality = {"a": 0.3, "b": 0.6}
    jobs = jobs_of(tmp_path, quality, "teachers=[]", "method={name: ce}")
    executor = Scripted(quality)
    assert states(work_off(jobs, executor, halving=HALVING)) == {"a": "held", "b": "finished"}
    assert executor.begun.count("b") <= 1 + len(HALVING.rungs(EPOCHS))  # once it may go on, it does so to the next rung


def test_a_run_that_another_process_has_is_waited_for(tmp_path: Path) -> None:
    quality = {"a": 0.5, "b": 0.5}
    jobs = jobs_of(tmp_path, quality, "teachers=[]", "method={name: ce}")
    other = Scripted(quality)
    (job,) = jobs[:1]
    job.folder.mkdir()
    work_module.write_down(job)
    handle = other.submit(job)
    (job.folder / "heartbeat.json").write_text(json.dumps({"t": time.time()}))
    told: list[tuple[int, str]] = []

    def look() -> bool:
        """The other process goes on meanwhile."""
        if other.locks:
            other.poll(handle)
        return False

    executor = Scripted(quality)
    works = work_off(jobs, executor, asked_to_stop=look, tell=lambda work, change: told.append((work.number, change)))
    assert told[0] == (1, "waiting")
    assert set(states(works).values()) == {"finished"}
    assert executor.begun == ["b"]


def test_an_overview_tells_groups_and_the_best(tmp_path: Path) -> None:
    quality = {"a": 0.3, "b": 0.6, "c": 0.2, "d": 0.1, "broken": 0.0, "later": 0.9}
    jobs = jobs_of(tmp_path, quality, "teachers=[]", "method={name: ce}")
    work_off(jobs[:-1], Scripted(quality), halving=HALVING)
    held = Manifest(tmp_path, "some", "", HALVING, tuple(Listed(name, name.upper(), EPOCHS) for name in quality))
    write_manifest(held)
    manifest = read_manifest(tmp_path)
    assert manifest == held
    overview = Overview(manifest)
    overview.look()
    assert {row.folder: row.group for row in overview.rows} == {
        "a": "held", "b": "done", "c": "held", "d": "held", "broken": "failed", "later": "queue"
    }  # fmt: skip
    assert overview.best is not None
    assert overview.best.folder == "b"
    assert overview.best.best_accuracy == pytest.approx(0.608)
    assert overview.counts["held"] == 3


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"runs": 3}',
        '{"runs": [3, {"folder": "../x"}, {"folder": "/etc"}, {"folder": 7}], "halving": {"eta": 0}}',
    ],
)
def test_a_manifest_may_say_anything(content: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(content)
    manifest = read_manifest(tmp_path)
    assert manifest is None or manifest.runs == ()


def test_one_command_at_a_time_works_on_a_sweep(tmp_path: Path) -> None:
    lock = SweepLock(tmp_path / "sweeps" / "some")
    assert is_worked_on(tmp_path / "sweeps" / "some")
    with pytest.raises(UserError, match="another command is at work on"):
        SweepLock(tmp_path / "sweeps" / "some")
    lock.release()
    assert not is_worked_on(tmp_path / "sweeps" / "some")
    assert list_sweeps(tmp_path) == []
    write_manifest(Manifest(tmp_path / "sweeps" / "some", "some", "", None, ()))
    assert list_sweeps(tmp_path) == [tmp_path / "sweeps" / "some"]


def test_presets_that_are_alike_want_the_same_networks() -> None:
    one: Preset = tiny("train.lr=0.1")
    assert networks_of(one) & networks_of(tiny("train.lr=0.2"))  # the teachers
    assert networks_of(one) - networks_of(tiny("train.lr=0.2"))  # the student alone
