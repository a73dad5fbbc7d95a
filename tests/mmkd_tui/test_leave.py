"""Leaving: a live run asks and goes on by default, stopping waits for the run, a run that is over keeps nobody."""

from __future__ import annotations

import contextlib
import os
import shlex
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.screens import dashboard, look, played, run, shown, text, until
from support.terminal import Terminal, wait_until
from textual import events

from engine.run_state import RunState
from mmkd_tui.app import MmkdApp
from mmkd_tui.screens.ask import Answer, Ask
from mmkd_tui.screens.home import HomeScreen


@pytest.mark.parametrize("key", ["q", "ctrl+q", "ctrl+c"])
@pytest.mark.parametrize("size", [(80, 24), (60, 16)])
def test_leaving_a_live_run_asks(key: str, size: tuple[int, int]) -> None:
    async def test() -> None:
        async with shown(played(), size) as pilot:
            await pilot.press(key)
            assert isinstance(pilot.app.screen, Ask)
            for words in ("Detach", "Stop and save", "Cancel"):
                assert words in text(pilot.app)
            assert pilot.app.is_running

    run(test())


@pytest.mark.parametrize("answer", ["enter", "d", "q", "ctrl+c", "ctrl+q"])
def test_detaching_is_the_default_and_asks_nothing_of_the_run(answer: str) -> None:
    async def test() -> None:
        client = played()
        async with shown(client) as pilot:
            await pilot.press("q", answer)
            await until(pilot, lambda: pilot.app._exit)
        assert client.requests == []

    run(test())


@pytest.mark.parametrize("ahead", ["n", "e", "question_mark"])
def test_keys_typed_after_leaving_do_nothing(ahead: str, tmp_path: Path) -> None:
    async def test() -> None:
        app = MmkdApp(runs_dir=tmp_path / "runs")
        async with app.run_test() as pilot:
            await until(pilot, lambda: isinstance(app.screen, HomeScreen))
            home = app.screen
            for key in ("q", ahead, ahead):  # without a pause between two
                app.post_message(events.Key(key, None))
            await until(pilot, lambda: app._exit)
            await pilot.pause(0.1)
            assert app.screen is home
        assert app.return_code == 0

    run(test())


@pytest.mark.parametrize("answer", ["escape", "c"])
def test_cancelling_stays(answer: str) -> None:
    async def test() -> None:
        client = played()
        async with shown(client) as pilot:
            await pilot.press("q", answer)
            assert pilot.app.screen is dashboard(pilot.app)
            assert not pilot.app._exit
        assert client.requests == []

    run(test())


def test_the_answers_are_reached_by_arrows_too() -> None:
    async def test() -> None:
        client = played()
        async with shown(client) as pilot:
            await pilot.press("q", "right", "right", "enter")
            assert pilot.app.screen is dashboard(pilot.app)
        assert client.requests == []

    run(test())


def test_stop_and_save_leaves_when_the_run_has_stopped() -> None:
    async def test() -> None:
        client = played()
        client.answers = False
        async with shown(client) as pilot:
            await pilot.press("q", "s")
            assert [command for _, command in client.requests] == ["stop"]
            await look(pilot)
            assert "stopping" in text(pilot.app)
            assert not pilot.app._exit
            client._obey(*client.requests[0])
            await look(pilot)
            await until(pilot, lambda: pilot.app._exit)

    run(test())


@pytest.mark.parametrize("state", [RunState.FINISHED, RunState.CRASHED, RunState.FAILED, RunState.STOPPED])
def test_a_run_that_is_over_is_left_at_once(state: RunState) -> None:
    async def test() -> None:
        client = played()
        client.forced = state
        async with shown(client) as pilot:
            await pilot.press("q")
            await until(pilot, lambda: pilot.app._exit)

    run(test())


def test_a_question_that_is_long_scrolls_and_keeps_its_answers_in_sight() -> None:
    async def test() -> None:
        async with shown(played(), (60, 16)) as pilot:
            body = "/" + "a-folder-of-runs/" * 15 + "\nand that is the end of it"
            pilot.app.push_screen(Ask("Delete this run?", body, [Answer("keep", "Keep it"), Answer("delete", "Delete it")]))
            await until(pilot, lambda: "Delete it" in text(pilot.app))
            assert "Keep it" in text(pilot.app)
            assert "the end of it" not in text(pilot.app)
            await pilot.press("pagedown")
            await until(pilot, lambda: "the end of it" in text(pilot.app))
            assert "Keep it" in text(pilot.app)

    run(test())


def test_stopping_asks_and_no_is_the_default() -> None:
    async def test() -> None:
        client = played()
        async with shown(client) as pilot:
            await pilot.press("s")
            assert "Stop the run?" in text(pilot.app)
            await pilot.press("enter")
            assert client.requests == []
            await pilot.press("s", "y")
            assert [command for _, command in client.requests] == ["stop"]
            await look(pilot)
            assert dashboard(pilot.app).follower.state is RunState.STOPPED
            assert "was stopped" in text(pilot.app)

    run(test())


@contextlib.contextmanager
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: bool) -> Iterator[Terminal]:
    """A terminal in a folder without runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMKD_CONFIG", str(tmp_path / "config"))
    terminal = Terminal("tui", shell=shell)
    try:
        yield terminal
    finally:
        terminal.end()


def is_calm(terminal: Terminal) -> bool:
    """Whether lines are edited by the terminal, as a shell needs it."""
    return bool(termios.tcgetattr(terminal.fd)[3] & termios.ICANON)


def test_it_sleeps_till_the_shell_has_it_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, monkeypatch, shell=True) as terminal:
        terminal.type(f"{shlex.join(Terminal.MMKD)} tui\n")
        terminal.wait("Enter starts")
        for _ in range(2):
            since = terminal.mark()
            terminal.type("\x1a")
            terminal.wait("Stopped", since=since)
            assert is_calm(terminal)
            since = terminal.mark()
            terminal.type("fg\n")
            terminal.wait("Enter starts", since=since)
        terminal.type("q")
        wait_until(lambda: is_calm(terminal))
        terminal.type("echo $((6 * 7)) left\n")
        terminal.wait("42 left", since=since)


def test_where_no_shell_could_wake_it_it_does_not_sleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, monkeypatch, shell=False) as terminal:
        terminal.wait("Enter starts")
        terminal.type("\x1a?")
        terminal.wait("All keys of this screen")
        pid, status = os.waitpid(terminal.pid, os.WNOHANG | os.WUNTRACED)
        assert (pid, status) == (0, 0)
