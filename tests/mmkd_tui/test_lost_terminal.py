"""A run outlives its viewers: on a real pseudo-terminal, with a real run on digits in its own process."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.presets import tiny
from support.terminal import Terminal, last_step, wait_until

from engine.run_client import DirectoryClient
from engine.run_state import RunState
from engine.spawning import spawn

pytestmark = pytest.mark.slow  # a minute and a half, nearly all of it waiting


@pytest.fixture
def open_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMKD_CONFIG", str(tmp_path / "config"))
    opened: list[Terminal] = []

    def open_one(*arguments: str) -> Terminal:
        opened.append(Terminal(*arguments))
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.end()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., DirectoryClient]]:
    """Starts a run and waits until it distils; what is still live at the end is killed."""
    clients: list[DirectoryClient] = []

    def start_one(epochs: int) -> DirectoryClient:
        preset = tiny(f"train.epochs={epochs}", "evaluate.student_alone=false", "evaluate.every=20")
        client = DirectoryClient(spawn(preset, tmp_path / "runs"))
        clients.append(client)
        events, console = client.path / "events.jsonl", client.path / "console.log"
        wait_until(lambda: '"phase":"distil"' in read(events), told=lambda: read(console))
        return client

    yield start_one
    for client in clients:
        if client.state().live:
            os.kill(host_of(client), signal.SIGKILL)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def host_of(client: DirectoryClient) -> int:
    return int(json.loads((client.path / "heartbeat.json").read_text())["pid"])


FOREVER = 100_000
# Long enough to be in the middle when something happens to the viewer, short enough to wait for the end.
A_WHILE = 60


def test_closing_the_terminal_ends_the_viewer_and_not_the_run(
    open_terminal: Callable[..., Terminal], start: Callable[..., DirectoryClient]
) -> None:
    client = start(FOREVER)
    first = open_terminal("attach")
    first.wait("running", "Pause")
    first.hang_up()
    wait_until(first.gone, seconds=10)
    step = last_step(client.path)
    wait_until(lambda: last_step(client.path) > step + 10)
    second = open_terminal("attach", client.path.name)
    second.wait("running", "Pause")
    second.type("s")
    second.wait("Stop the run?")
    second.type("y")
    second.wait("stopped")
    wait_until(lambda: client.state() == RunState.STOPPED)
    assert (client.path / "student.safetensors").exists()


def test_a_terminal_that_nobody_reads_stalls_no_training(
    open_terminal: Callable[..., Terminal], start: Callable[..., DirectoryClient]
) -> None:
    client = start(FOREVER)
    viewer = open_terminal("attach")
    viewer.wait("running", "Pause")
    viewer.reading = False
    for _ in range(5):  # ten seconds or more
        step = last_step(client.path)
        wait_until(lambda step=step: last_step(client.path) > step + 5, seconds=20)
        time.sleep(2)
    viewer.reading = True
    mark = viewer.mark()
    wait_until(lambda: viewer.mark() > mark)
    viewer.type("p")
    viewer.wait("paused", since=mark)


def test_a_killed_viewer_costs_the_run_nothing(
    open_terminal: Callable[..., Terminal], start: Callable[..., DirectoryClient]
) -> None:
    client = start(A_WHILE)
    viewer = open_terminal("attach")
    viewer.wait("running", "Pause")
    os.kill(viewer.pid, signal.SIGKILL)
    wait_until(lambda: client.state() == RunState.FINISHED, seconds=120)
    assert client.result()["student_accuracy"] > 0


def test_a_killed_host_is_told_as_crashed_with_a_way_on_and_resumes(
    open_terminal: Callable[..., Terminal], start: Callable[..., DirectoryClient]
) -> None:
    client = start(A_WHILE)
    viewer = open_terminal("attach")
    viewer.wait("running", "Pause")
    mark = viewer.mark()
    os.kill(host_of(client), signal.SIGKILL)
    viewer.wait("crashed", "Resume", since=mark, seconds=5)
    mark = viewer.mark()
    viewer.type("R")
    viewer.wait("running", since=mark)
    wait_until(lambda: client.state() == RunState.FINISHED, seconds=120)
    viewer.wait("finished", since=mark)


def test_two_viewers_agree(open_terminal: Callable[..., Terminal], start: Callable[..., DirectoryClient]) -> None:
    start(FOREVER)
    one, two = open_terminal("attach"), open_terminal("attach")
    for viewer in (one, two):
        viewer.wait("running", "Pause")
    marks = [one.mark(), two.mark()]
    one.type("p")
    for viewer, mark in zip((one, two), marks, strict=True):
        viewer.wait("paused", since=mark)
    marks = [one.mark(), two.mark()]
    two.type("p")
    for viewer, mark in zip((one, two), marks, strict=True):
        viewer.wait("running", since=mark)


def test_leaving_a_live_run_detaches_and_says_how_to_come_back(
    open_terminal: Callable[..., Terminal], start: Callable[..., DirectoryClient]
) -> None:
    client = start(FOREVER)
    viewer = open_terminal("attach")
    viewer.wait("running", "Pause")
    viewer.type("q")
    viewer.wait("Detach")
    mark = viewer.mark()
    viewer.type("\r")
    wait_until(viewer.gone, seconds=10)
    viewer.wait(f"mmkd attach {client.path.name}", since=mark, seconds=5)
    assert client.state() == RunState.RUNNING
