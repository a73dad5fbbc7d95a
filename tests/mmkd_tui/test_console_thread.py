"""What draws may be stuck: the run's main thread is not, and what matters is drawn when it is free again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from support.hosts import Watched, no_process_left
from support.presets import TINY
from support.terminal import Terminal, wait_until

from engine.events import Event, Log, Metrics
from mmkd_tui.console_thread import MOST, ConsoleThread


class Stuck:
    """A display that takes nothing before it is let go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.seen: list[Event] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def __call__(self, events: Sequence[Event]) -> None:
        self.go_on.wait(60)
        self.seen += events


def metrics(step: int) -> Metrics:
    return Metrics(
        phase="distil", index=0, epoch=0, step=step, lr=0.1, loss=1.0, ce=1.0, accuracy=0.5, steps=100, images_per_second=1.0
    )


def test_a_stuck_display_holds_up_nobody_and_then_has_all_that_matters() -> None:
    display = Stuck()
    with ConsoleThread(display) as console:
        for step in range(1000):
            console([metrics(step)])
        console([Log(level="info", message="something happened")])
        for step in range(1000, 2000):
            console([metrics(step)])
        display.go_on.set()
    assert len(display.seen) < 10
    assert any(isinstance(event, Log) for event in display.seen)
    assert display.seen[-1] == metrics(1999) or display.seen[-1].step == 1999  # type: ignore[attr-defined]


def test_what_waits_is_bounded() -> None:
    display = Stuck()
    console = ConsoleThread(display)
    console.__enter__()
    console([Log(level="info", message=str(number)) for number in range(3 * MOST)])
    display.go_on.set()
    console.__exit__(None, None, None)
    assert len(display.seen) <= MOST
    assert display.seen[-1].message == str(3 * MOST - 1)  # type: ignore[attr-defined]


@pytest.mark.slow  # half a minute: the terminal's buffer has to fill up
def test_a_terminal_that_nobody_reads_stops_no_heartbeat_and_no_wish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    with no_process_left(tmp_path / "runs"):
        wide = (400, 50)  # each picture is larger, and the buffer sooner full
        terminal = Terminal(
            "run", "tiny.yaml", "--set", "train.epochs=100000", "--set", "evaluate.student_alone=false", size=wide
        )
        terminal.wait("resnet8 by mmkd", "images/s")
        (folder,) = (tmp_path / "runs").iterdir()
        watched = Watched(folder)
        terminal.reading = False
        time.sleep(20)

        def beat() -> float:
            return float(json.loads((folder / "heartbeat.json").read_text())["t"])

        wait_until(lambda: time.time() - beat() < 3, seconds=5)
        id = watched.client.request("pause")
        watched.wait_for(lambda event: getattr(event, "id", "") == id, "an answer")
        terminal.end()
