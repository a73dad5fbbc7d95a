"""Plain tables on stdout, for what `list` commands print."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def stdout_console() -> Console:
    """Without markup. Where no terminal sets the width, a row is a line."""
    from mmkd_tui.progress import RunConsole

    return RunConsole(file=sys.stdout, width=None if sys.stdout.isatty() else 1000)


def print_table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = (), whole: Sequence[str] = ()
) -> None:
    """A line a row; the columns in `right` are numbers, those in `whole` are never broken. What a terminal obeys is escaped."""
    from rich.table import Table
    from rich.text import Text

    from engine.text import plain

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(Text(title, style="bold"), justify="right" if title in right else "left", no_wrap=title in whole)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    stdout_console().print(table)


def megabytes(count: float) -> str:
    """1234567 -> `1.2 MB`."""
    return f"{count / 1e6:,.1f} MB"
