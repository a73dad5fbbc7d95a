"""However long a run, its events and its console stay small, nobody who follows it misses or sees twice what counts."""

from __future__ import annotations

import io
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.console_file import bound_console
from engine.event_reader import BACKLOG, EventReader
from engine.event_writer import LIMIT, MESSAGE, Allowance, EventWriter
from engine.events import (
    CacheProgress,
    CheckpointSaved,
    EpochEnded,
    Event,
    Log,
    Metrics,
    PhaseStarted,
    RunEnded,
    RunStarted,
    from_line,
    number_of,
    to_line,
)
from engine.run_client import DirectoryClient
from engine.run_dir import RunDir
from engine.run_list import list_runs
from engine.thinning import thin
from mmkd_tui.curves import Curves
from mmkd_tui.run_view import RunView

SMALL = 400_000  # bytes; a run in small
PER_EPOCH = 100
STARTED = RunStarted(
    name="long", run_dir="x", dataset="digits", classes=("0", "1"), teachers=("a", "b"), student="resnet8", method="aver",
    device="cpu", seed=0, t=1.0,
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> RunDir:
    path = tmp_path / "runs" / "long"
    path.mkdir(parents=True)
    return RunDir(path)


def phase(name: str, steps: int, index: int = 0) -> PhaseStarted:
    return PhaseStarted(
        phase=name, index=index, label=name, epochs=steps // PER_EPOCH, steps_per_epoch=PER_EPOCH, parameters=1, t=1.0
    )


def shared(name: str, step: int, loss: float | None, index: int = 0) -> dict[str, Any]:
    position = {"phase": name, "index": index, "epoch": (step - 1) // PER_EPOCH, "step": step, "t": float(step)}
    return position | {"lr": 0.1, "loss": loss, "ce": loss, "accuracy": 0.5, "logit_weights": (0.25, 0.75)}


def metrics(name: str, step: int, loss: float | None) -> Metrics:
    return Metrics(**shared(name, step, loss), steps=10**6, images_per_second=100.0)


def ended(name: str, step: int, loss: float | None = 1.0, **more: Any) -> EpochEnded:
    return EpochEnded(**shared(name, step, loss), measured_accuracy=step / 1e6, best_accuracy=0.5, best_epoch=0, **more)


def train(write: Callable[[Event], None], name: str, steps: int, loss: Callable[[int], float | None]) -> None:
    write(phase(name, steps))
    for step in range(1, steps + 1):
        write(metrics(name, step, loss(step)))
        if step % PER_EPOCH == 0:
            write(ended(name, step, loss(step - PER_EPOCH // 2)))


def events_of(folder: RunDir) -> list[Event]:
    found = [from_line(line) for line in folder.events.read_text().splitlines()]
    assert None not in found
    return [event for event in found if event is not None]


def of_kind(events: list[Event], kind: type[Event]) -> list[Any]:
    return [event for event in events if type(event) is kind]


def drained(reader: EventReader) -> list[Event]:
    found = reader.poll()
    while not reader.caught_up:
        found += reader.poll()
    return found


# ---- the bound, and what stays


def test_a_long_run_is_bounded_and_keeps_all_that_decides_a_display(folder: RunDir) -> None:
    writer = EventWriter(folder, SMALL)
    written: list[Event] = []
    largest = 0

    def write(event: Event) -> None:
        nonlocal largest
        writer(event)
        largest = max(largest, folder.events.stat().st_size)
        if not isinstance(event, Metrics):
            written.append(event)

    steps, peak = 12_000, 4_321
    write(STARTED)
    train(write, "teacher", 100, lambda step: 2.0)
    train(write, "distil", steps, lambda step: 9.0 if step == peak else 4 - 3 * step / steps)
    write(CheckpointSaved(path="checkpoints/x", step=1, t=1.0))
    write(RunEnded(state="done", t=1.0))
    writer.close()
    events = events_of(folder)
    assert largest <= SMALL
    # Everything but metrics, in its order, as it was.
    assert [event for event in events if not isinstance(event, Metrics)] == written
    assert list_runs(folder.path.parent)[0].name == "long"
    # A short training keeps all of its metrics beside a long one, whose beginning is as dense as what followed.
    assert len([event for event in of_kind(events, Metrics) if event.phase == "teacher"]) == 100
    kept = [event.step for event in of_kind(events, Metrics) if event.phase == "distil"]
    assert kept == sorted(set(kept))
    quarters = sum(step <= steps // 4 for step in kept), sum(steps // 4 < step <= steps // 2 for step in kept)
    assert min(quarters) > 20
    assert max(quarters) < 1.5 * min(quarters)
    # The curve: over the whole run, where it was, and no peak is lost.
    curves = Curves()
    curves.add(events)
    assert curves.now is not None
    series = curves.now.loss["total"]
    columns = series.sampled(25, 0.0, steps / PER_EPOCH)
    assert series.highest() == 9.0
    for number, column in enumerate(columns):
        if not column.high > 5:
            assert abs(column.mean - (4 - 3 * (number + 0.5) / 25)) < 0.06, number


def test_the_newest_metrics_are_all_there(folder: RunDir) -> None:
    writer = EventWriter(folder, SMALL)
    writer(STARTED)
    train(writer, "distil", 5_000, lambda step: 1.0)
    steps = [event.step for event in of_kind(events_of(folder), Metrics)]
    assert steps[-15:] == list(range(4_986, 5_001))


def test_a_loss_that_is_no_number_stays(folder: RunDir) -> None:
    writer = EventWriter(folder, SMALL)
    writer(STARTED)
    train(writer, "distil", 6_000, lambda step: None if step == 777 else 1.0)
    assert [event.step for event in of_kind(events_of(folder), Metrics) if event.loss is None] == [777]


def test_of_many_weights_by_class_the_newest_stay_and_no_epochs_end_is_lost(folder: RunDir) -> None:
    writer = EventWriter(folder, SMALL)
    writer(STARTED)
    writer(phase("distil", 100 * PER_EPOCH))
    table = tuple((0.123456789, 0.876543211) for _ in range(1000))
    for epoch in range(1, 101):
        writer(ended("distil", epoch * PER_EPOCH, logit_weights_by_class=table))
        assert folder.events.stat().st_size < SMALL
    epochs = of_kind(events_of(folder), EpochEnded)
    assert [epoch.epoch for epoch in epochs] == list(range(100))
    assert [epoch.measured_accuracy for epoch in epochs] == [step * PER_EPOCH / 1e6 for step in range(1, 101)]
    assert epochs[-1].logit_weights_by_class == table
    view = RunView()
    view.apply_all(events_of(folder))
    assert view.phase is not None
    assert view.phase.by_class is not None
    assert view.phase.by_class.epoch == 99
    assert sum(bool(epoch.logit_weights_by_class) for epoch in epochs) > 2


def test_of_too_many_classes_an_epochs_end_comes_without_its_weights_by_class(folder: RunDir) -> None:
    told: list[str] = []
    writer = EventWriter(folder, tell=lambda level, message: told.append(message))
    writer(STARTED)
    writer(phase("distil", 2 * PER_EPOCH))
    tables = {f"{kind}_weights_by_class": tuple((0.3333, 0.3333, 0.3334) for _ in range(20_000)) for kind in ("logit", "feature")}
    for step in (PER_EPOCH, 2 * PER_EPOCH):
        writer(ended("distil", step, **tables))
    assert [event.measured_accuracy for event in of_kind(events_of(folder), EpochEnded)] == [1e-4, 2e-4]
    assert told == ["the weights by class are not kept: of 20,000 classes they are too many to be shown"]


def test_what_stays_does_not_hang_on_how_a_line_is_written() -> None:
    events: list[Event] = [STARTED]
    train(events.append, "distil", 1_500, lambda step: None if step == 700 else math.sin(step) * 10 ** (step % 40 - 20))
    as_written = b"".join(to_line(event, number).encode() for number, event in enumerate(events))
    otherwise = re.sub(rb'\{("kind":"\w+"),("n":\d+),(.*)\}', rb"{\1,\3, \2}", as_written)
    kept = []
    for lines in (as_written, otherwise):
        target = io.BytesIO()
        thin(io.BytesIO(lines), target, 100_000)
        kept.append([from_line(line) for line in target.getvalue().decode().splitlines()])
    assert kept[0] == kept[1]
    assert 50 < len(kept[0]) < 400


def test_what_is_never_thinned_may_fill_the_file_and_is_not_copied_at_each_line(folder: RunDir) -> None:
    writer = EventWriter(folder, 20_000)
    writer(STARTED)
    inodes = set()
    for epoch in range(1, 1_001):
        writer(ended("distil", epoch * PER_EPOCH))
        inodes.add(folder.events.stat().st_ino)
    assert len(of_kind(events_of(folder), EpochEnded)) == 1_000
    assert len(inodes) < 12


def test_of_the_teacher_caches_progress_the_first_and_the_newest_stay(folder: RunDir) -> None:
    writer = EventWriter(folder, SMALL)
    writer(STARTED)
    for done in range(8_000):
        writer(CacheProgress(label="a", view=0, views=1, done=done, total=8_000, images_per_second=1.0, t=float(done)))
    progress = [event.done for event in of_kind(events_of(folder), CacheProgress)]
    assert progress[0] == 0
    assert progress[-1] == 7_999
    assert folder.events.stat().st_size < SMALL


def test_the_limit_of_a_run_is_some_tens_of_megabytes() -> None:
    assert LIMIT <= 24e6
    assert BACKLOG >= LIMIT  # and whoever opens it reads all of it: a peak that was kept is seen


# ---- who follows it


def test_a_viewer_that_follows_sees_each_event_once_and_all(folder: RunDir) -> None:
    writer, reader = EventWriter(folder, SMALL), EventReader(folder.events)
    written: list[Event] = []
    found: list[Event] = []
    inodes = set()

    def write(event: Event) -> None:
        writer(event)
        written.append(event)
        if len(written) % 7 == 0:
            found.extend(drained(reader))
            inodes.add(folder.events.stat().st_ino)

    write(STARTED)
    train(write, "distil", 5_000, lambda step: 1.0)
    found += drained(reader)
    assert len(inodes) > 1
    assert found == written


@pytest.mark.parametrize("only_new", [False, True])
def test_a_viewer_that_slept_goes_on_without_a_line_twice(folder: RunDir, only_new: bool) -> None:
    writer = EventWriter(folder, SMALL)
    writer(STARTED)
    train(writer, "distil", 500, lambda step: 1.0)
    reader = EventReader(folder.events, only_new)
    found = drained(reader)
    assert len(found) == (0 if only_new else 507)
    for part in range(1, 9):  # each time some thinnings are missed
        writer(Log(level="info", message=str(part), t=1.0))
        for step in range(3_000 * part, 3_000 * (part + 1)):
            writer(metrics("distil", step, 1.0))
        found += drained(reader)
    steps = [event.step for event in of_kind(found, Metrics)]
    assert steps == sorted(set(steps))
    assert steps[-1] == 26_999
    assert [event.message for event in of_kind(found, Log)] == [str(part) for part in range(1, 9)]
    assert len(of_kind(found, RunStarted)) == (0 if only_new else 1)


def test_who_wants_no_metrics_is_given_all_the_rest(folder: RunDir) -> None:
    writer = EventWriter(folder, SMALL)
    all_of, rest = EventReader(folder.events), EventReader(folder.events, metrics=False)
    writer(STARTED)
    train(writer, "distil", 500, lambda step: 1.0)
    assert drained(rest) == [event for event in drained(all_of) if not isinstance(event, Metrics)]
    train(writer, "alone", 500, lambda step: 1.0)
    assert drained(rest) == [event for event in drained(all_of) if not isinstance(event, Metrics)] != []


def test_another_file_with_the_same_inode_number_is_noticed(folder: RunDir) -> None:
    writer, reader = EventWriter(folder, SMALL), EventReader(folder.events)
    writer(STARTED)
    train(writer, "distil", 200, lambda step: 1.0)
    found = drained(reader)
    before = folder.events.read_bytes().splitlines(keepends=True)
    writer.close()
    # As where the kernel gives the number of a file that is gone to the next one: here it is written over.
    later = [line.replace(b'"n":%d,' % number_of(line), b'"n":%d,' % (number_of(line) + 1_000)) for line in before[1:]]
    folder.events.write_bytes(b"".join([before[0], *before[1::2], *later]))
    found = drained(reader)
    assert len(found) == len(later)


# ---- crashes


def test_a_torn_line_is_gone_after_thinning_and_numbers_go_on(folder: RunDir) -> None:
    writer = EventWriter(folder, SMALL)
    writer(STARTED)
    train(writer, "distil", 100, lambda step: 1.0)
    writer.close()
    with folder.events.open("ab") as file:
        file.write(b'{"kind":"metrics","n":999,"t":1.0,"pha')
    (folder.path / ".events.jsonl.thinned").write_text("left by a crash")
    reader = EventReader(folder.events)
    found = drained(reader)
    writer = EventWriter(folder, SMALL)
    assert not (folder.path / ".events.jsonl.thinned").exists()
    for step in range(101, 4_000):
        writer(metrics("distil", step, 1.0))
    found += drained(reader)
    numbers = [number_of(line) for line in folder.events.read_bytes().splitlines()]
    assert numbers == sorted(set(numbers))  # type: ignore[type-var]
    steps = [event.step for event in of_kind(found, Metrics)]
    assert steps == sorted(set(steps))
    assert steps[-1] == 3_999
    events_of(folder)


def test_killed_at_any_moment_it_leaves_a_whole_file(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from engine.event_writer import EventWriter
from engine.events import EpochEnded, Log, Metrics
from engine.run_dir import RunDir
from engine.thinning import thin
write = EventWriter(RunDir(Path(sys.argv[1])), 60_000)
step = write._number
while True:
    step += 1
    numbers = {"epoch": step // 50, "step": step, "lr": 0.1, "loss": 1.0, "ce": 1.0, "accuracy": 0.5}
    write(Metrics(phase="distil", index=0, steps=1, images_per_second=1.0, **numbers))
    if step % 50 == 0:
        write(EpochEnded(phase="distil", index=0, **numbers))
"""
    home = str(Path(__file__).parents[2])
    folder = RunDir(tmp_path)
    reader = EventReader(folder.events)
    found: list[Event] = []
    for round in range(6):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), home])
        before, deadline = len(found), time.monotonic() + 60
        while len(found) < before + 300 + 97 * round:
            assert time.monotonic() < deadline
            assert process.poll() is None
            found += reader.poll()
        process.kill()
        process.wait()
        found += drained(reader)
    numbers = [number for line in folder.events.read_bytes().splitlines() if (number := number_of(line)) is not None]
    assert numbers == sorted(set(numbers))
    ends = [event.step for event in of_kind(found, EpochEnded)]
    assert ends == sorted(set(ends))
    in_file = [event.step for event in map(from_line, folder.events.read_text().splitlines()) if isinstance(event, EpochEnded)]
    assert set(ends) <= set(in_file)


def test_where_it_cannot_be_thinned_the_run_goes_on(folder: RunDir) -> None:
    writer = EventWriter(folder, 40_000)
    writer(STARTED)
    (folder.path / ".events.jsonl.thinned").mkdir()  # nothing can be made in its place
    for step in range(1, 1_000):
        writer(metrics("distil", step, 1.0))
    assert [event.step for event in of_kind(events_of(folder), Metrics)] == list(range(1, 1_000))
    (folder.path / ".events.jsonl.thinned").rmdir()
    for step in range(1_000, 1_200):
        writer(metrics("distil", step, 1.0))
    assert len(of_kind(events_of(folder), Metrics)) < 600


# ---- messages


def test_a_run_that_never_stops_talking_is_cut_short_and_it_is_told(folder: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("engine.event_writer.time.monotonic", lambda: clock[0])
    writer = EventWriter(folder)
    writer(STARTED)
    count = 20_000
    for number in range(count):
        writer(Log(level="info", message=f"message {number} " + "x" * 50))
    writer(Log(level="error", message="what really matters"))
    assert folder.events.stat().st_size + folder.console.stat().st_size < 4 * Allowance.burst
    clock[0] += 60
    writer(Log(level="info", message="later"))
    writer(RunEnded(state="done"))
    messages = [event.message for event in of_kind(events_of(folder), Log)]
    said = [message for message in messages if message.startswith("message ")]
    assert said == [f"message {number} " + "x" * 50 for number in range(len(said))]
    assert 1_000 < len(said) < count
    assert messages[len(said) :] == [
        "what really matters",
        f"{count - len(said):,} messages were left out here: too many came at once",
        "later",
    ]
    assert "were left out here" in folder.console.read_text()


def test_messages_that_were_left_out_are_told_at_the_end_at_the_latest(folder: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Allowance, "burst", 1_000)
    monkeypatch.setattr(Allowance, "rate", 0.0)
    writer = EventWriter(folder)
    writer(STARTED)
    for _ in range(50):
        writer(Log(level="info", message="the same again"))
    writer(RunEnded(state="done"))
    events = events_of(folder)
    said = [event.message for event in of_kind(events, Log)]
    assert said[-1] == f"{50 - len(said) + 1} messages were left out here: too many came at once"
    assert isinstance(events[-1], RunEnded)


def test_a_week_of_talking_takes_some_megabytes() -> None:
    assert Allowance.burst + 7 * 24 * 3600 * Allowance.rate < 8e6


def test_a_message_without_end_is_cut(folder: RunDir) -> None:
    writer = EventWriter(folder)
    writer(Log(level="error", message="x" * (MESSAGE + 1_000)))
    (event,) = of_kind(events_of(folder), Log)
    assert event.message.endswith("... (1,000 characters more)")


# ---- the console


def test_a_console_that_grows_is_bounded_and_its_end_can_be_read(folder: RunDir) -> None:
    handle = os.open(folder.console, os.O_WRONLY | os.O_APPEND | os.O_CREAT)  # as a host and its children have it
    try:
        for number in range(5_000):
            os.write(handle, b"line %d\n" % number)
            if number % 100 == 0:
                bound_console(folder, 10_000)
        bound_console(folder, 10_000)
        sizes = folder.console.stat().st_size, folder.console_before.stat().st_size
        assert max(sizes) <= 11_000
        assert list(DirectoryClient(folder.path).console_tail(3)) == ["line 4997", "line 4998", "line 4999"]
        os.write(handle, b"x" * 11_000 + b"\n")
        bound_console(folder, 10_000)
        os.write(handle, b"after\n")
        assert DirectoryClient(folder.path).console_tail(1) == ["after"]
        assert folder.console.read_bytes() == b"after\n"
    finally:
        os.close(handle)


def test_a_console_that_is_a_link_is_let_alone(folder: RunDir, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x" * 1_000)
    folder.console.symlink_to(tmp_path / "precious")
    bound_console(folder, 100)
    assert (tmp_path / "precious").stat().st_size == 1_000
