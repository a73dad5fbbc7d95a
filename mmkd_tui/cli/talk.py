"""What commands say to people beside their answer, on stderr, and what they ask before something is gone for good."""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TextIO, TypeVar

import typer

from engine.errors import UserError
from engine.text import plain
from mmkd_tui.cli import exit_codes
from mmkd_tui.cli.table import megabytes


class Removable(Protocol):
    """A run, a teacher or a cached output: what lies in a folder of its own."""

    @property
    def path(self) -> Path: ...

    @property
    def size(self) -> int: ...


_Thing = TypeVar("_Thing", bound=Removable)

MANY = 20  # runs


def say(line: str) -> None:
    """One line. Where a terminal has gone, or a disk is full, it is not heard, and that is all."""
    with suppress(OSError):
        typer.echo(plain(line), err=True)


def answered(write: Callable[[], None]) -> bool:
    """Has `write` put out on stdout what a command of hours found. Where nobody takes that any more, a line and False."""
    try:
        write()
        sys.stdout.flush()
    except OSError as error:
        let_go(sys.stdout)
        say(f"mmkd: the report cannot be written: {error.strerror or error}; the same command with --report-only tells it again")
        return False
    return True


def told(lines: Sequence[str], folder: str) -> bool:
    """Puts out on stdout what a run came to. Where its terminal has gone it is not heard, and that is all: its folder has it.
    Where a file takes it no more, a line and False. BrokenPipeError where nobody reads any further.
    """
    try:
        for line in lines:
            typer.echo(line)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        let_go(sys.stdout)
        if error.errno != errno.EIO:
            say(f"mmkd: the result cannot be written: {error.strerror or error}; {shlex.quote(folder)}/result.json has it")
            return False
    return True


def let_go(stream: TextIO) -> None:
    """Of a standard stream that takes nothing any more: Python would complain when it flushes that at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def say_how_many(runs: int) -> None:
    """That so many runs are read now: of hundreds it takes a while."""
    if runs >= MANY:
        say(f"reading {runs:,} runs ...")


def agreed(noun: str, lines: Sequence[str]) -> bool:
    """Whether these (`noun` is the word for one of them) may be removed. UserError where there is nobody to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UserError(f"there is no terminal to ask in; give --yes to remove {noun}s without being asked")
    for line in lines:
        say(line)
    which = f"this {noun}" if len(lines) == 1 else f"these {len(lines)} {noun}s"
    typer.echo(f"Remove {which} for good? [y/N] ", err=True, nl=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def removed(
    noun: str, things: Sequence[_Thing], cells: Callable[[_Thing], Sequence[str]], remove: Callable[[_Thing], None], yes: bool
) -> int:
    """Removes things (`noun` is the word for one), asked about by their `cells` unless `yes`; the exit code."""
    if not yes and not agreed(noun, ["  ".join(cell for cell in cells(thing) if cell) for thing in things]):
        say("nothing removed")
        return exit_codes.FAILED
    for thing in things:
        size = megabytes(thing.size)  # while it is there
        try:
            remove(thing)
        except OSError as error:
            raise UserError(f"{thing.path} cannot be removed: {error.strerror or error}") from error
        say(f"removed {thing.path.name} ({size})")
    return exit_codes.DONE
