"""`mmkd data`: which data sets there are, where they lie, and fetching those that are missing."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import UserError
from engine.text import plain
from mmkd_tui.cli.group import command_group
from mmkd_tui.cli.options import AsJson, DataRoot, data_root_of
from mmkd_tui.cli.table import print_table
from mmkd_tui.cli.talk import say

if TYPE_CHECKING:
    from engine.catalog import DatasetFacts

app = command_group("Data sets: list and fetch them.")


@app.command("list")
def list_command(as_json: AsJson = False, data_root: DataRoot = None) -> None:
    """List the data sets, and where each of them lies."""
    from engine.catalog import DATASETS

    known = [_as_json(facts, data_root_of(data_root)) for facts in DATASETS.values()]
    if as_json:
        typer.echo(json.dumps(known, indent=2))
        return
    columns = ("name", "training images", "test images", "classes", "pixels", "where")
    rows = (
        (
            one["name"],
            f"{one['train_images']:,}",
            f"{one['test_images']:,}",
            str(len(one["classes"])),
            f"{one['size']}x{one['size']}x{one['channels']}",
            _where(one),
        )
        for one in known
    )
    print_table(columns, rows, columns[1:5])


@app.command("fetch")
def fetch_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set of mmkd data list.")], data_root: DataRoot = None
) -> None:
    """Download a data set to where runs look for it. Its folder is printed on stdout."""
    from engine import catalog
    from engine.data_files import find_files

    facts = catalog.DATASETS.get(name)
    if facts is None:
        likely = catalog.nearest(name, catalog.DATASETS)
        hint = f"did you mean '{likely}'?" if likely else f"one of {', '.join(catalog.DATASETS)}"
        raise UserError(f"there is no data set '{name[:64]}'; {hint}")
    if not facts.files:
        say(f"{name} is {facts.origin}: there is nothing to fetch")
        return
    root = data_root_of(data_root)
    found = find_files(facts, root)
    if found is not None:
        say(f"{name} is there already")
        typer.echo(plain(str(found.folder)))
        return
    say(f"fetching {name} from its publisher ...")
    # torchvision may talk on stdout, which is for the answer alone.
    with contextlib.redirect_stdout(sys.stderr):
        from engine.data import fetch_files

        folder = fetch_files(name, root)
    typer.echo(plain(str(folder)))


def _as_json(facts: DatasetFacts, root: Path) -> dict[str, Any]:
    from engine.data_files import find_files

    found = find_files(facts, root) if facts.files else None
    return {
        "name": facts.name,
        "title": facts.title,
        "train_images": facts.train_images,
        "test_images": facts.test_images,
        "classes": facts.classes,
        "channels": facts.channels,
        "size": facts.size,
        "origin": facts.origin,
        "embedded": not facts.files,
        "present": not facts.files or found is not None,
        "folder": str(found.folder) if found else None,
    }


def _where(known: dict[str, Any]) -> str:
    if known["embedded"]:
        return str(known["origin"])
    return known["folder"] or f"missing: mmkd data fetch {known['name']}"
