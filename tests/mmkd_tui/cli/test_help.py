"""Every command's help: it fits 80 columns with nothing cut, says each default, and has one example that can be typed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from support.command_line import understood

from mmkd_tui.cli.main import app, run_command

Capture = pytest.CaptureFixture[str]
# [default: 5], or in words: "(the preset's seed)", "nothing: the newest"
SAYS_DEFAULT = re.compile(r"\[default: |\([^)]+\)|nothing: ")


def every_command(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each group and command, with the words by which it is called."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from every_command(inner, (*path, name))


COMMANDS = dict(every_command(typer.main.get_command(app)))


def test_there_are_commands() -> None:
    assert {("run",), ("data", "fetch"), ("teachers", "check")} <= set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "mmkd")
def test_help(path: tuple[str, ...], capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run_command([*path, "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"[a-z]\.\.\.|…", text), "cut short"
    examples = re.findall(r"^ *Example: (.+)$", text, re.MULTILINE)
    assert len(examples) == 1, "one example, on a line of its own"
    assert shlex.split(examples[0])[: len(path) + 1] == ["mmkd", *path]
    understood(examples[0])


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(path) or "mmkd")
def test_defaults(path: tuple[str, ...]) -> None:
    """Of each option and argument that takes a value and need not be given; a switch is off unless it is given."""
    command = COMMANDS[path]
    context = typer.Context(command, info_name="mmkd")
    for parameter in command.params:
        if parameter.required or getattr(parameter, "is_flag", False):
            continue
        _, told = parameter.get_help_record(context)
        assert SAYS_DEFAULT.search(told), f"{parameter.name}: {told}"
