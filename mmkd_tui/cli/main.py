"""The `mmkd` command: its groups, and how every error reaches the user: one message on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

import engine.openmp  # noqa: F401  before torch, for the commands that train
from engine.errors import PresetError, TrainingError, UserError
from engine.text import one_line, plain
from mmkd_tui.cli import (
    bench,
    cache,
    compare,
    control,
    data,
    doctor,
    evaluate,
    exit_codes,
    export,
    predict,
    presets,
    report,
    run,
    runs,
    sweep,
    table_runs,
    teachers,
    tui,
)
from mmkd_tui.cli.talk import let_go

TAKES_NO_MORE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a write to an open file, as stdout is, fails with
NO_HOME = "Could not determine home directory."  # pathlib's words, in a RuntimeError

app = typer.Typer(
    help="Multi-teacher knowledge distillation in the terminal. Switches are off unless they are given.\n\n"
    "Example: mmkd run quickstart",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("tui")(tui.tui_command)
app.command("run")(run.run_command)
app.command("report")(report.report_command)
app.command("table")(table_runs.table_command)
app.command("sweep")(sweep.sweep_command)
app.command("compare")(compare.compare_command)
app.command("attach")(tui.attach_command)
control.register(app)
app.command("export")(export.export_command)
app.command("evaluate")(evaluate.evaluate_command)
app.command("predict")(predict.predict_command)
app.add_typer(runs.app, name="runs")
app.add_typer(presets.app, name="presets")
app.add_typer(teachers.app, name="teachers")
app.add_typer(cache.app, name="cache")
app.add_typer(data.app, name="data")
app.command("bench")(bench.bench_command)
app.command("doctor")(doctor.doctor_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"mmkd {version('mmkd-tui')}")
        except PackageNotFoundError:
            typer.echo("mmkd (run from its source, not installed)")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run_command(arguments: Sequence[str]) -> int:
    """Runs `mmkd` with these arguments; returns its exit code and never raises an Exception."""
    try:
        result = typer.main.get_command(app).main(args=list(arguments), prog_name="mmkd", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else exit_codes.DONE
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else exit_codes.FAILED
    except (KeyboardInterrupt, typer.Abort):
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        let_go(sys.stdout)  # whoever read our output has gone
        return exit_codes.FAILED
    except Exception as error:
        return _complain(error)


def _complain(error: Exception) -> int:
    if isinstance(error, PresetError):
        _say(*error.problems)
        return exit_codes.USER_MISTAKE
    if isinstance(error, UserError):
        _say(f"mmkd: {error}")
        return exit_codes.USER_MISTAKE
    if isinstance(error, TrainingError):  # met where no run is there to end by it: pictures that cannot be read now
        _say(f"mmkd: {error}")
        return exit_codes.FAILED
    if str(error) == NO_HOME:
        _say("mmkd: a path begins with ~ and there is no home of that name on this machine; write the path out in full")
        return exit_codes.USER_MISTAKE
    if isinstance(error, OSError) and error.filename is None and error.errno in TAKES_NO_MORE:
        let_go(sys.stdout)
        _say(f"mmkd: the answer cannot be written: {error.strerror}")
        return exit_codes.FAILED
    # Typer's usage errors; their class has another home in each of its versions.
    if callable(message := getattr(error, "format_message", None)):
        command = getattr(getattr(error, "ctx", None), "command_path", "mmkd")
        _say(f"mmkd: {one_line(message()).rstrip('.')}; see '{command} --help'")
        return exit_codes.USER_MISTAKE
    if os.environ.get("MMKD_DEBUG") == "1":
        _say("".join(traceback.format_exception(error)))
    what = f"{type(error).__name__}: {one_line(str(error), 500)}"
    _say(f"mmkd: something went wrong inside mmkd: {what}; please report it (set MMKD_DEBUG=1 to see the traceback)")
    return exit_codes.FAILED


def _say(*lines: str) -> None:
    with suppress(OSError):  # of a terminal that has gone
        for line in lines:
            typer.echo(plain(line, keep="\n"), err=True)


def _open_closed_streams() -> None:
    """Standard streams that are closed, as daemons start programs, lead nowhere: Python has none for them, and the next file that
    is opened would be taken for one.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest free one
        os.set_inheritable(handle, True)
    os.close(handle)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode))  # noqa: PTH123, SIM115


def main() -> None:
    """The entry point `mmkd`."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")  # a terminal that cannot show a character gets its escape
    code = run_command(sys.argv[1:])
    try:
        sys.stderr.flush()
    except OSError:  # what was said to nobody does not change how it ended
        let_go(sys.stderr)
    sys.exit(code)
