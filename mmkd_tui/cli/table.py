"""A plain table on stdout, for what `list` commands print."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
    """A line a row; the columns named in `right` are numbers. What a terminal would obey is shown as an escape."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from engine.text import plain

    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(Text(title, style="bold"), justify="right" if title in right else "left")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    # Where no terminal sets the width, a row is a line.
    console = Console(file=sys.stdout, markup=False, highlight=False, width=None if sys.stdout.isatty() else 1000)
    console.print(table)


def megabytes(count: float) -> str:
    """1234567 -> `1.2 MB`."""
    return f"{count / 1e6:,.1f} MB"
