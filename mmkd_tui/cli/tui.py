"""`mmkd tui` and `mmkd attach`: the way into the terminal app."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from engine.errors import UserError
from engine.text import plain
from mmkd_tui.cli import exit_codes
from mmkd_tui.cli.options import DataRoot, Plugin, RunsDir, load_plugins

Ascii = Annotated[
    bool | None,
    typer.Option("--ascii/--no-ascii", help="Draw with ASCII only (by itself where the locale is not UTF-8, as with LC_ALL=C)."),
]
Theme = Annotated[str | None, typer.Option(help="Colours, for example ansi-dark (the one used last).", show_default=False)]
OwnRunsDir = Annotated[
    Path | None,
    typer.Option(
        "--runs-dir", help="Where the runs' folders are (./runs; where there is none, those of last time).", show_default=False
    ),
]
Mouse = Annotated[bool, typer.Option("--mouse/--no-mouse", help="Take mouse clicks; without, the terminal selects text.")]


def tui_command(
    runs_dir: OwnRunsDir = None,
    ascii_only: Ascii = None,
    theme: Theme = None,
    mouse: Mouse = True,
    data_root: DataRoot = None,
    plugin: Plugin = None,
) -> None:
    """Presets, runs, a wizard and a live dashboard. Runs go on in the background when it is closed.

    Example: mmkd tui --theme ansi-dark
    """
    from mmkd_tui.settings import usual_runs_dir

    load_plugins(plugin)
    folder = runs_dir or usual_runs_dir()
    _show(folder, None, "tui", "mmkd run trains without one", ascii_only, theme, mouse, data_root)


def attach_command(
    run: Annotated[
        str | None,
        typer.Argument(metavar="[RUN]", help="Name, part of it, or folder of a run or sweep; nothing: the newest live run."),
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    ascii_only: Ascii = None,
    theme: Theme = None,
    mouse: Mouse = True,
    data_root: DataRoot = None,
) -> None:
    """Watch a live run or sweep, or look at one that has ended.

    Example: mmkd attach quickstart
    """
    from engine.run_list import find_run
    from engine.sweeps.manifest import find_sweep

    folder = runs_dir.expanduser()
    path = (find_sweep(folder, run) if run else None) or find_run(folder, run, live=True)
    _show(runs_dir, path, "attach", "mmkd runs show shows a run without one", ascii_only, theme, mouse, data_root)


def _show(
    runs_dir: Path,
    run: Path | None,
    command: str,
    remedy: str,
    ascii_only: bool | None,
    theme: str | None,
    mouse: bool,
    data_root: Path | None,
) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError(f"mmkd {command} needs a terminal; {remedy}")
    from engine import paths
    from mmkd_tui.app import run_app

    paths.data_root(), paths.teacher_store()  # where there is no home folder that is told before the app has the screen
    paths.inside(runs_dir.expanduser(), "--runs-dir")
    root = data_root.expanduser().absolute() if data_root else None
    message = run_app(runs_dir=runs_dir.expanduser(), open_run=run, ascii=ascii_only, theme=theme, mouse=mouse, data_root=root)
    if message is None:
        raise typer.Exit(exit_codes.FAILED)
    if message:
        typer.echo(plain(message, keep="\n"))
