"""Events on a disk that is full: nothing is lost, nothing is torn, and people are told once."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from engine import event_writer
from engine.event_writer import EventWriter
from engine.events import Event, Log, Metrics, from_line, to_line
from engine.run_dir import RunDir


class Disk:
    """Takes so many bytes of events, then no more until there is room again."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room, self.handle, self.real = room, -1, os.write
        monkeypatch.setattr(os, "write", self.write)

    def write(self, handle: int, data: bytes) -> int:
        if handle != self.handle:
            return self.real(handle, data)
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self.real(handle, bytes(data[: self.room]))
        self.room -= taken
        return taken


def metrics(step: int) -> Metrics:
    return Metrics(
        phase="distil", index=0, epoch=0, step=step, lr=0.1, loss=1.0, ce=1.0, accuracy=0.5, steps=9, images_per_second=1.0
    )


def written(run_dir: RunDir) -> list[Event | None]:
    lines = run_dir.events.read_text().split("\n")
    assert lines.pop() == ""
    return [from_line(line) for line in lines]


@pytest.fixture
def told() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def writer(tmp_path: Path, told: list[tuple[str, str]]) -> EventWriter:
    return EventWriter(RunDir(tmp_path), tell=lambda level, message: told.append((level, message)))


@pytest.mark.parametrize("room", range(0, 400, 37))
def test_what_a_full_disk_does_not_take_comes_later_whole_and_in_order(
    room: int, writer: EventWriter, told: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch, room)
    disk.handle = writer._file
    events: list[Event] = [Log(level="info", message=f"line {number} é") for number in range(5)]
    for event in events[:4]:
        writer(event)
    disk.room = 1 << 20
    writer(events[4])
    writer.close()
    assert written(RunDir(tmp_path)) == events
    levels = [level for level, _ in told]
    assert levels in ([], ["error", "info"])
    assert bool(levels) == (room < sum(len(to_line(event).encode()) for event in events[:4]))
    assert (tmp_path / "console.log").read_text().count("\n") == 5


def test_metrics_are_left_out_before_memory_is_and_nothing_else_is(
    writer: EventWriter, told: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_writer, "MOST", 2000)
    disk = Disk(monkeypatch, 0)
    disk.handle = writer._file
    for step in range(100):
        writer(metrics(step))
    writer(Log(level="info", message="an epoch"))
    assert writer._bytes < 3000
    disk.room = 1 << 20
    writer(metrics(100))
    writer.close()
    found = written(RunDir(tmp_path))
    steps = [event.step for event in found if isinstance(event, Metrics)]
    assert steps == [*range(len(steps) - 1), 100] or steps == list(range(len(steps)))
    assert 3 < len(steps) < 20
    assert any(isinstance(event, Log) and event.message == "an epoch" for event in found)
    assert f"{101 - len(steps)} lines of metrics were left out" in told[-1][1]


def test_where_nothing_can_ever_be_written_it_gives_up(writer: EventWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_writer, "MOST_AT_ALL", 2000)
    disk = Disk(monkeypatch, 0)
    disk.handle = writer._file

    def fill() -> None:
        for _ in range(100):
            writer(Log(level="info", message="x" * 100))

    with pytest.raises(OSError, match="No space left"):
        fill()


def test_who_tells_may_write_an_event_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(level: str, message: str) -> None:
        writer(Log(level=level, message=message))

    writer = EventWriter(RunDir(tmp_path), tell=tell)
    disk = Disk(monkeypatch, 0)
    disk.handle = writer._file
    writer(Log(level="info", message="first"))
    disk.room = 1 << 20
    writer(Log(level="info", message="second"))
    writer.close()
    messages = [event.message for event in written(RunDir(tmp_path)) if isinstance(event, Log)]
    assert [message.split(":")[0] for message in messages] == [
        "first",
        "events.jsonl cannot be written",
        "second",
        "events.jsonl is written again",
    ]
