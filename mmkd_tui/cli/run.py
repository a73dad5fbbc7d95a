"""`mmkd run`: one preset, trained in the foreground."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import UserError
from mmkd_tui.cli.options import DataRoot, Device, Force, Overrides, Plugin, data_root_of, load_named, load_plugins

if TYPE_CHECKING:
    from rich.console import Console

    from engine.preset import Preset


def run_command(
    preset: Annotated[
        str | None,
        typer.Argument(metavar="[PRESET]", help="A shipped preset's name, or a file; nothing: a menu.", show_default=False),
    ] = None,
    overrides: Overrides = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the student (the preset's seed).", show_default=False)] = None,
    device: Device = None,
    data_root: DataRoot = None,
    runs_dir: Annotated[Path, typer.Option(help="Where the run's folder is made.")] = Path("runs"),
    force: Force = False,
    plugin: Plugin = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> int:
    """Train what a preset says: its teachers, the student alone, the student distilled.

    Ctrl-C stops after the step and saves what there is. Exit codes: 0 done, 1 failed, 2 a mistake in what was asked, 130 stopped.
    """
    from engine.gpu_lock import refuse_if_busy
    from mmkd_tui.progress import RunConsole

    console = RunConsole()
    load_plugins(plugin)
    chosen = load_named(preset or _ask(console), overrides, device, seed)
    if not force:
        refuse_if_busy(chosen.hardware.device)
    if not quiet and console.is_terminal:
        console.print(f"loading {chosen.dataset.name} and PyTorch ...", style="dim", end="\r")
    return _serve(chosen, console, data_root, runs_dir, force, as_json, quiet)


def _ask(console: Console) -> str:
    """The menu, in a terminal; elsewhere an error that lists the presets."""
    from rich.table import Table
    from rich.text import Text

    from engine.preset_yaml import list_presets

    entries = [entry for entry in list_presets() if entry.preset is not None]
    if not (sys.stdin.isatty() and console.is_terminal):
        raise UserError(f"name a preset: {', '.join(entry.name for entry in entries)}, or a file; mmkd presets list tells more")
    menu = Table.grid(padding=(0, 2, 0, 0))
    for number, entry in enumerate(entries, start=1):
        menu.add_row(Text(f"{number:3}"), Text(entry.name, style="bold"), Text(entry.description))
    console.print(menu)
    while True:
        console.print("Which one? [1] ", end="")
        line = sys.stdin.readline()
        if not line:
            raise typer.Abort
        answer = line.strip() or "1"
        if answer.isdecimal() and 1 <= int(answer) <= len(entries):
            return entries[int(answer) - 1].name
        if answer in {entry.name for entry in entries}:
            return answer
        console.print(f"Type a number from 1 to {len(entries)}, or a name.")


def _serve(
    preset: Preset, console: Console, data_root: Path | None, runs_dir: Path, force: bool, as_json: bool, quiet: bool
) -> int:
    from dataclasses import asdict

    from engine.run import Run
    from engine.run_dir import RunDir
    from engine.serving import exit_code, serve
    from mmkd_tui.console_thread import ConsoleThread
    from mmkd_tui.progress import make_progress

    run_dir = RunDir.create(runs_dir, preset.name)
    run = Run(preset, run_dir.path, data_root=data_root_of(data_root), share_gpu=force)
    with ConsoleThread(make_progress(console, quiet)) as progress:
        served = serve(run, progress)
    result = asdict(served.result)
    if served.result.mistake:
        raise UserError(served.result.message)
    if not quiet or served.result.state == "failed":
        _conclude(console, result, run_dir)
    if as_json:
        typer.echo(json.dumps(result))
    return exit_code(served)


def _conclude(console: Console, result: dict[str, Any], run_dir: Any) -> None:
    from rich.text import Text

    from engine.text import plain
    from mmkd_tui.progress import clock
    from mmkd_tui.result_table import result_table

    def say(line: str) -> None:
        console.print(Text(plain(line)), soft_wrap=True)

    folder = result["run_dir"]
    try:
        if result["state"] == "done":
            console.print(result_table(result, console.options.ascii_only))
            say(f"{clock(result['seconds'])} in all, {result['images_per_second']:,.0f} images/s while distilling")
            if result["selected_on"] == "test":
                say("The best epoch was chosen on the test split: these accuracies are too good to report.")
            say(f"The student is {folder}/student.safetensors, all figures are in {folder}/result.json")
        elif result["state"] == "stopped":
            student = " and the best student so far" if run_dir.student.exists() else ""
            say(f"Stopped. What there is, a checkpoint{student}, is in {folder}; finished teachers are in the store")
            say(f"mmkd resume {folder} goes on with it in the background")
        else:
            say(f"mmkd: the run failed: {result['message']}; what it saved is in {folder}")
    except OSError:
        pass  # the terminal has gone; everything is in the folder
