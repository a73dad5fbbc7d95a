"""`mmkd report`: runs as a page that a colleague reads without mmkd."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from engine.errors import UserError
from engine.text import plain
from mmkd_tui.cli.options import AsJson, RunsDir
from mmkd_tui.cli.talk import say, say_how_many

Format = Literal["html", "md"]
ENDINGS: dict[str, Format] = {".html": "html", ".htm": "html", ".md": "md", ".markdown": "md"}


def report_command(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN...]", help="Names of runs, or parts of them; nothing: the newest.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Where it is written (report.html in the run's folder).")
    ] = None,
    format: Annotated[
        Format | None, typer.Option(help="html: one page; md: Markdown, PNG charts beside it (FILE's ending).")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")] = False,
    runs_dir: RunsDir = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Write what runs came to as one page.

    Result, curves, the teachers' weights, the preset; several runs are compared. The page needs no network and no mmkd.

    Example: mmkd report quickstart --open
    """
    from engine.paths import private_folder, write_whole
    from engine.run_list import find_run, find_runs
    from mmkd_tui.report import page, vega
    from mmkd_tui.report.record import read_record

    kind = _format(out, format)
    folder = runs_dir.expanduser()
    paths = list(dict.fromkeys(find_runs(folder, runs))) if runs else [find_run(folder, None)]
    say_how_many(len(paths))
    own = out is None and len(paths) == 1
    target = (out or (paths[0] if own else Path()) / f"report.{kind}").expanduser()
    if target.exists() and not force and not own:  # what is in a run's folder was made by this command
        raise UserError(f"{target} is there already; --force replaces it, -o FILE names another")
    records = [read_record(path) for path in paths]
    try:
        private_folder(target.parent)
        if kind == "html":
            write_whole(target, page.html(records, vega.script()))
        else:
            text, pictures = page.markdown(records, target.stem, vega.picture)
            for name, data in pictures.items():
                write_whole(target.with_name(name), data)
            write_whole(target, text)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror or error}; name another file with -o") from error
    if as_json:
        typer.echo(json.dumps({"file": str(target.absolute()), "runs": page.as_json(records)}))
    else:
        typer.echo(plain(str(target)))
    if show:
        _open(target)


def _format(out: Path | None, given: Format | None) -> Format:
    """What --format says, else what the file's name ends in. UserError where the two differ, and where neither says it."""
    if out is None:
        return given or "html"
    meant = ENDINGS.get(out.suffix.lower())
    if meant is not None and given not in (None, meant):
        raise UserError(f"-o {plain(str(out))} --format {given}: a file of the format {given} does not end with {out.suffix}")
    found = given or meant
    if found is None:
        raise UserError(f"-o {plain(str(out))}: a report ends with .html or .md; --format html or md says what another name is")
    return found


def _open(target: Path) -> None:
    """In the person's browser, where there is one: over SSH there is none."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        say(f"no screen to open it on; from your own machine: scp HOST:{target.absolute()} .")
        return
    typer.launch(str(target.absolute()))
