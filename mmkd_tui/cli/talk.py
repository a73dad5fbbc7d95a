"""What commands say to people beside their answer, on stderr, and what they ask before something is gone for good."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from engine.errors import UserError
from engine.text import plain


def say(line: str) -> None:
    """One line."""
    typer.echo(plain(line), err=True)


def agreed(noun: str, lines: Sequence[str]) -> bool:
    """Whether these (`noun` is the word for one of them) may be removed. UserError where there is nobody to ask."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UserError(f"there is no terminal to ask in; give --yes to remove {noun}s without being asked")
    for line in lines:
        say(line)
    which = f"this {noun}" if len(lines) == 1 else f"these {len(lines)} {noun}s"
    typer.echo(f"Remove {which} for good? [y/N] ", err=True, nl=False)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
