"""A group of commands, which alone shows its help."""

from __future__ import annotations

import typer


def command_group(help: str, example: str) -> typer.Typer:
    """`help`: what the group is for, in one line. `example`: one of its commands, as it is typed."""
    app = typer.Typer(help=f"{help}\n\nExample: {example}", rich_markup_mode=None)

    @app.callback(invoke_without_command=True)
    def show_help(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    return app
