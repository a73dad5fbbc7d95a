"""`mmkd run`: one preset, trained in the foreground."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import UserError
from mmkd_tui.cli import exit_codes
from mmkd_tui.cli.options import (
    DataRoot,
    Device,
    Force,
    Gpus,
    Overrides,
    Plugin,
    Restarts,
    data_root_of,
    load_named,
    load_plugins,
)
from mmkd_tui.cli.talk import told

if TYPE_CHECKING:
    from rich.console import Console

    from engine.preset import Preset


def run_command(
    preset: Annotated[
        str | None,
        typer.Argument(
            metavar="[PRESET]", help="A shipped preset's name, or a file; -: from stdin; nothing: a menu.", show_default=False
        ),
    ] = None,
    overrides: Overrides = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the student (the preset's seed).", show_default=False)] = None,
    device: Device = None,
    data_root: DataRoot = None,
    runs_dir: Annotated[Path, typer.Option(help="Where the run's folder is made.")] = Path("runs"),
    force: Force = False,
    plugin: Plugin = None,
    gpus: Gpus = 1,
    restarts: Restarts = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> int:
    """Train a preset: its teachers, the student alone and distilled.

    Ctrl-C stops after the step and saves what there is. Exit codes: 0 done, 1 failed, 2 a mistake in what was asked, 130 stopped.

    Example: mmkd run quickstart --set train.epochs=20 --seed 1
    """
    from mmkd_tui.progress import RunConsole

    console = RunConsole()
    load_plugins(plugin)
    chosen = load_named(preset or _ask(console), overrides, device, seed)
    result, code = train(chosen, console, data_root, runs_dir, force=force, gpus=gpus, restarts=restarts, quiet=quiet)
    heard = told([json.dumps(result)] if as_json else [], result["run_dir"])
    return code if heard else code or exit_codes.FAILED


def train(
    preset: Preset,
    console: Console,
    data_root: Path | None,
    runs_dir: Path,
    *,
    force: bool,
    gpus: int,
    restarts: int,
    quiet: bool,
) -> tuple[Mapping[str, Any], int]:
    """Has a preset trained, shows that, and says how it ended; its result and the exit code.

    UserError where the user's mistake ended it.
    """
    from engine.gpu_lock import refuse_if_busy
    from mmkd_tui.progress import make_progress

    if not force:
        refuse_if_busy(preset.hardware.device, processes=gpus)
    if not quiet and console.is_terminal:
        console.print(f"loading {preset.dataset.name} and PyTorch ...", style="dim", end="\r")
    if gpus > 1:
        from mmkd_tui.cli.run_on_gpus import launch

        result, code = launch(preset, make_progress(console, quiet), data_root, runs_dir, force, gpus, restarts)
    else:
        result, code = _serve(preset, console, data_root, runs_dir, force, quiet)
    if result["mistake"]:
        raise UserError(result["message"])
    if not quiet or result["state"] == "failed":
        _conclude(console, result)
    return result, code


def _ask(console: Console) -> str:
    """The menu, in a terminal; elsewhere an error that lists the presets. Too many for the screen: first, which data set."""
    from engine.preset_yaml import list_presets

    entries = [entry for entry in list_presets() if entry.preset is not None]
    if not (sys.stdin.isatty() and console.is_terminal):
        raise UserError(f"name a preset: {', '.join(entry.name for entry in entries)}, or a file; mmkd presets list tells more")
    names = {entry.name: entry.description for entry in entries}
    if len(names) + 2 > console.size.height:
        groups: dict[str, dict[str, str]] = {}
        for entry in entries:
            if entry.preset is not None:
                groups.setdefault(entry.preset.dataset.name, {})[entry.name] = entry.description
        about = {name: next(iter(group)) if len(group) == 1 else f"{len(group)} presets" for name, group in groups.items()}
        chosen, listed = _choose(console, about, "Which data set? [1] ", names)
        if not listed:
            return chosen
        names = groups[chosen]
        if len(names) == 1:
            return next(iter(names))
    return _choose(console, names, "Which one? [1] ", names)[0]


def _choose(console: Console, lines: Mapping[str, str], question: str, names: Collection[str]) -> tuple[str, bool]:
    """One of `names`, typed, or one of the lines, by number or name; and whether it is meant as a line."""
    from rich.table import Table
    from rich.text import Text

    menu = Table.grid(padding=(0, 2, 0, 0))
    menu.add_column()
    menu.add_column(no_wrap=True)
    room = console.width - max(map(len, lines)) - 9  # for what is said about each
    for number, (name, about) in enumerate(lines.items(), start=1):
        said = Text(about)
        said.truncate(max(room, 8), overflow="ellipsis")
        menu.add_row(Text(f"{number:3}"), Text(name, style="bold"), said)
    console.print(menu)
    while True:
        console.print(question, end="")
        line = sys.stdin.readline()
        if not line:
            raise typer.Abort
        answer = line.strip() or "1"
        if answer.isdecimal() and 1 <= int(answer) <= len(lines):
            return list(lines)[int(answer) - 1], True
        if answer in lines or answer in names:
            return answer, answer not in names
        console.print(f"Type a number from 1 to {len(lines)}, or a name.")


def _serve(
    preset: Preset, console: Console, data_root: Path | None, runs_dir: Path, force: bool, quiet: bool
) -> tuple[Mapping[str, Any], int]:
    from dataclasses import asdict

    from engine.run import Run
    from engine.run_dir import RunDir
    from engine.serving import EndedAtOnce, exit_code, serve
    from mmkd_tui.console_thread import ConsoleThread
    from mmkd_tui.progress import make_progress

    run_dir = RunDir.create(runs_dir.expanduser(), preset.name)
    run = Run(preset, run_dir.path, data_root=data_root_of(data_root), share_gpu=force)
    try:
        with ConsoleThread(make_progress(console, quiet)) as progress:
            served = serve(run, progress)
    except EndedAtOnce as end:
        os._exit(end.exit_code)  # the training is at work, and would be waited for
    return asdict(served.result), exit_code(served)


def _conclude(console: Console, result: Mapping[str, Any]) -> None:
    from rich.text import Text

    from engine.result import lost_by_stopping
    from engine.run_dir import RunDir
    from engine.text import plain
    from mmkd_tui.progress import clock
    from mmkd_tui.result_table import result_table

    def say(line: str) -> None:
        console.print(Text(plain(line)), soft_wrap=True)

    folder = result["run_dir"]
    run_dir = RunDir(Path(folder))
    try:
        if result["state"] == "done":
            console.print(result_table(result, console.options.ascii_only))
            pace = result["images_per_second"]
            say(f"{clock(result['seconds'])} in all" + (f", {pace:,.0f} images/s while distilling" if pace is not None else ""))
            if result["selected_on"] == "test":
                say("The best epoch was chosen on the test split: these accuracies are too good to report.")
            what = f"The student is {folder}/student.safetensors"
            if result["only_teachers"]:
                what = "mmkd teachers list shows the teachers"
            say(f"{what}, all figures are in {folder}/result.json")
        elif result["state"] == "stopped":
            if not run_dir.path.exists():
                say("Stopped before it began.")
                return
            saved = ["a checkpoint"] * run_dir.has_checkpoint() + ["the best student so far"] * run_dir.student.exists()
            there = f"What there is, {' and '.join(saved)}, is in {folder}" if saved else "Nothing of the run was saved yet"
            lost = lost_by_stopping(result["message"])
            say(f"Stopped{', but ' + lost if lost else ''}. {there}; finished teachers are in the store")
            say(f"mmkd resume {folder} goes on with it in the background")
        else:
            say(
                f"mmkd: the run failed: {result['message']}; what it saved is in {folder}"
                if run_dir.path.exists()
                else f"mmkd: the run failed: {result['message']}"
            )
    except OSError:
        pass  # the terminal has gone; everything is in the folder
