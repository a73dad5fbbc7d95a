"""Whether a command line is one that `mmkd` understands; nothing is done."""

from __future__ import annotations

import re
import shlex

import typer

from mmkd_tui.cli.main import app


def understood(line: str) -> None:
    """`mmkd ...`, up to a redirection. Fails where a command or an option is none."""
    command, arguments = typer.main.get_command(app), shlex.split(re.split(r"&&|[|>]", line)[0])[1:]
    context = typer.Context(command, info_name="mmkd")
    while hasattr(command, "get_command"):
        command.parse_args(context, list(arguments))
        left = [*context._protected_args, *context.args]
        if not left:
            return
        name, arguments = left[0], left[1:]
        command = command.get_command(context, name)
        assert command is not None, f"there is no {name}"
        context = typer.Context(command, info_name=name, parent=context)
    if not {"--help", "-h"} & set(arguments):
        command.parse_args(context, list(arguments))
