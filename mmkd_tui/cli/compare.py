"""`mmkd compare`: runs side by side, and what their seeds allow to be said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.text import one_line
from mmkd_tui.cli.options import AsJson, RunsDir
from mmkd_tui.cli.table import print_table
from mmkd_tui.cli.talk import say, say_how_many

if TYPE_CHECKING:
    from engine.comparison import SideBySide

RUN_COLUMNS = ("", "run", "seed", "state", "epochs", "loss", "selection", "best", "accuracy")


def compare_command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Names of runs, parts of them, or their folders.")],
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Hold runs against each other.

    Settings that differ, where the curves ended and, over seeds, mean, deviation, 95 % confidence interval and a paired t-test
    with Holm's correction against the first. Runs that differ in their seeds alone count as one.

    In --json the accuracies of runs are fractions (0 to 1), those of groups and their differences per cent; best_epoch counts
    from 0.

    Example: mmkd compare 101500-mine 101730-mine
    """
    from engine.comparison import side_by_side
    from engine.run_list import find_runs

    say_how_many(len(runs))
    found = side_by_side(find_runs(runs_dir.expanduser(), runs))
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        _tell(found)
    for note in found.notes:
        say(note)


def _tell(found: SideBySide) -> None:
    from mmkd_tui.figures import percent
    from mmkd_tui.group_rows import GROUP_COLUMNS, group_row, number

    if found.differing:
        rows = [[key, *(_value(group.settings.get(key)) for group in found.groups)] for key in found.differing]
        print_table(("setting", *(group.letter for group in found.groups)), rows)
    else:
        typer.echo("all have the same settings, but for the seed")
    typer.echo()
    rows = []
    splits = sorted({run.selected_on for run in found.runs})
    titles = tuple("/".join(splits) if title == "selection" else title for title in RUN_COLUMNS)
    for run in found.runs:
        end = run.end
        curve = [""] * 4
        if end is not None:
            best = "" if end.best_epoch is None else f"{percent(end.best_accuracy)} in {end.best_epoch + 1}"
            curve = [str(end.epochs), number(end.loss, "{:.4f}"), percent(end.accuracy), best]
        rows.append([run.group, one_line(run.path.name, 48), str(run.seed), run.state, *curve, percent(run.accuracy)])
    print_table(titles, rows, titles[4:], ("run",))
    typer.echo()
    print_table(GROUP_COLUMNS, [group_row(group) for group in found.groups], GROUP_COLUMNS[2:])


def _value(value: Any) -> str:
    return "" if value is None else one_line(value if isinstance(value, str) else json.dumps(value), 40)
