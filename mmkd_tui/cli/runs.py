"""`mmkd runs`: the runs in a folder: list, show and remove them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import PresetError, UserError
from engine.text import plain
from mmkd_tui.cli import exit_codes
from mmkd_tui.cli.group import command_group
from mmkd_tui.cli.options import AsJson, RunsDir
from mmkd_tui.cli.table import megabytes, print_table, stdout_console
from mmkd_tui.cli.talk import removed, say
from mmkd_tui.figures import moment, percent

if TYPE_CHECKING:
    from engine.preset import Preset
    from engine.run_list import RunSummary

app = command_group("Runs: list, show and remove them.", "mmkd runs list")

LOG_LINES = 10
COLUMNS = ("run", "state", "progress", "method", "student", "accuracy", "alone", "size")
NUMBERS = COLUMNS[5:]


@app.command("list")
def list_command(runs_dir: RunsDir = Path("runs"), as_json: AsJson = False) -> None:
    """List the runs in a folder, the newest first.

    Example: mmkd runs list --runs-dir runs --json
    """
    from engine.run_list import list_runs

    runs = list_runs(runs_dir.expanduser(), strict=True)
    if as_json:
        typer.echo(json.dumps([_as_json(run) for run in runs], indent=2))
    elif runs:
        print_table(COLUMNS, (_cells(run) for run in runs), NUMBERS)
    else:
        say(f"no runs in {runs_dir} yet; mmkd run PRESET makes one, and so does mmkd tui")


@app.command("show")
def show_command(
    run: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run's name, a part of it, or its folder; nothing: the newest.")
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Show one run: its state, preset, result and end of its log.

    Example: mmkd runs show quickstart
    """
    from engine.run_client import DirectoryClient
    from engine.run_list import find_run, summary

    path = find_run(runs_dir.expanduser(), run)
    client = DirectoryClient(path)
    known, result, log = summary(path), client.result(), client.console_tail(LOG_LINES)
    preset = _preset(path)
    if as_json:
        shown = preset.model_dump(mode="json") if preset else None
        typer.echo(json.dumps(_as_json(known) | {"preset": shown, "result": result, "log": list(log)}, indent=2))
        return
    _show(known, preset, result)
    if log:
        typer.echo("\nthe end of console.log:")
    for line in log:
        typer.echo(f"  {plain(line, 500)}")


@app.command("rm")
def rm_command(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN...]", help="Names of runs, or parts of them; nothing: by --older-than.")
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than", metavar="AGE", help="Runs that ended so long ago: 12h, 30d or 8w (those named).", show_default=False
        ),
    ] = None,
    keep_best: Annotated[
        bool, typer.Option("--keep-best", help="Of each preset, keep the run whose student is the most accurate.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """Delete runs and all that is in their folders.

    Those named, or all that ended some time ago. A live run is never deleted.

    Example: mmkd runs rm --older-than 30d --keep-best
    """
    from engine.run_list import list_runs, outdated, remove_run

    folder = runs_dir.expanduser()
    if (older_than is None) == (not runs):
        raise UserError("name runs, or say how old they must be by --older-than (not both)")
    if older_than is None:
        if keep_best:
            raise UserError("--keep-best goes with --older-than; leave it out where runs are named")
        chosen = _named(folder, runs or [])
    else:
        chosen = outdated(list_runs(folder, strict=True), seconds_of(older_than), keep_best=keep_best)
        if not chosen:
            say(f"no run in {folder} ended more than {older_than} ago" + " and is not the best of its preset" * keep_best)
            return exit_codes.DONE
    total = megabytes(sum(run.size for run in chosen))
    code = removed(
        "run", chosen, lambda run: (run.path.name, str(run.state), megabytes(run.size)), lambda run: remove_run(run.path), yes
    )
    if code == exit_codes.DONE and len(chosen) > 1:
        say(f"{len(chosen)} runs, {total}")
    return code


def _named(folder: Path, names: Sequence[str]) -> list[RunSummary]:
    """Runs that may be removed. UserError where one may not."""
    from engine.run_list import find_runs, how_to_end, summary

    chosen = [summary(path) for path in dict.fromkeys(find_runs(folder, names))]
    for run in chosen:
        if not run.path.parent.exists() or not run.path.parent.samefile(folder):
            raise UserError(f"{run.path} is not in {folder}; give the folder that it is in by --runs-dir, and its name")
        if run.state.live:
            raise UserError(f"{plain(run.path.name)} is live ({run.state}); {how_to_end(run.path, run.state)}")
    return chosen


def seconds_of(age: str) -> float:
    """`12h`, `30d`, `8w` -> seconds. UserError where it is none such."""
    found = re.fullmatch(r"(\d{1,6})([hdw])", age.strip())
    if found is None:
        raise UserError(f"--older-than is '{age[:32]}', which is no age; give hours, days or weeks: 12h, 30d, 8w")
    return int(found[1]) * {"h": 3600.0, "d": 86_400.0, "w": 604_800.0}[found[2]]


def _preset(path: Path) -> Preset | None:
    from engine.preset_yaml import load_recorded

    try:
        return load_recorded(path / "preset.yaml")
    except PresetError:
        return None


def _show(run: RunSummary, preset: Preset | None, result: Mapping[str, Any] | None) -> None:
    from engine.preset_yaml import dump_preset
    from mmkd_tui.result_table import result_table

    facts = {"run": run.path.name, "state": str(run.state), "folder": str(run.path.absolute())}
    facts |= {"size": megabytes(run.size), "started": moment(run.started), "progress": _progress(run)}
    if result is not None:
        facts["message"] = result["message"]
    for name, value in facts.items():
        if value:
            typer.echo(f"{name:8}  {plain(value)}")
    typer.echo(f"\n{dump_preset(preset, brief=True).rstrip()}" if preset else "\nits preset.yaml cannot be read")
    if result is not None and result["state"] == "done":
        typer.echo()
        console = stdout_console()
        console.print(result_table(result, console.options.ascii_only))


def _as_json(run: RunSummary) -> dict[str, Any]:
    return asdict(run) | {"path": str(run.path.absolute()), "state": str(run.state)}


def _cells(run: RunSummary) -> tuple[str, ...]:
    accuracies = (percent(run.student_accuracy), percent(run.student_alone_accuracy))
    trained = ("teachers alone", "") if run.only_teachers else (plain(run.method, 16), plain(run.student, 24))
    return (plain(run.path.name, 64), str(run.state), _progress(run), *trained, *accuracies, megabytes(run.size))


def _progress(run: RunSummary) -> str:
    # Where all teachers were in the store, no phase was begun.
    phase = "teacher" if run.only_teachers and run.phase == "start" and run.share == 1.0 else run.phase
    return plain(phase, 16) + ("" if run.share is None else f" {run.share:.0%}")
