"""`mmkd cache`: what teachers said of the training images, kept for later runs; how much room it takes, and making room."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import UserError
from engine.text import plain
from mmkd_tui.cli import exit_codes
from mmkd_tui.cli.group import command_group
from mmkd_tui.cli.options import AsJson
from mmkd_tui.cli.table import megabytes, print_table
from mmkd_tui.cli.talk import removed, say
from mmkd_tui.figures import moment

if TYPE_CHECKING:
    from engine.teachers.cache_files import CacheEntry, CacheStore

app = command_group("The teacher cache: list and remove it.", "mmkd cache list")

COLUMNS = ("key", "teacher", "architecture", "data set", "images", "views", "kept", "size", "in use", "made")
NUMBERS = ("images", "views", "size")


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """List the teachers whose outputs are kept, the newest last.

    Example: mmkd cache list --json
    """
    store = _store()
    entries = store.entries()
    if as_json:
        typer.echo(json.dumps([_as_json(entry) for entry in entries], indent=2))
    elif entries:
        print_table(COLUMNS, (_cells(entry) for entry in entries), NUMBERS)
        say(f"{megabytes(sum(entry.size for entry in entries))} in {store.root}")
    else:
        say(f"nothing in {store.root} yet; a run whose preset has teacher_cache keeps its teachers' outputs there")


@app.command("rm")
def rm_command(
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="KEY...", help="Keys, or how they begin; nothing: with --all.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of it that no run uses.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """Remove kept outputs. Later runs compute them again; what a run uses is never removed.

    Example: mmkd cache rm --all
    """
    store = _store()
    if everything == bool(keys):
        raise UserError("name keys to remove, or give --all; mmkd cache list shows them")
    chosen = store.entries() if everything else list({one.key: one for one in (store.named(key) for key in keys or ())}.values())
    used = [entry for entry in chosen if entry.in_use]
    if used and not everything:
        raise UserError(f"{used[0].key} is in use by a run; wait until it ends, or stop it")
    for entry in used:
        say(f"kept {entry.key}: a run uses it")
    chosen = [entry for entry in chosen if not entry.in_use]
    if not chosen:
        say("nothing to remove")
        return exit_codes.DONE
    return removed("cached output", chosen, _cells, store.remove, yes)


def _store() -> CacheStore:
    from engine import paths
    from engine.teachers.cache_files import CacheStore

    return CacheStore(paths.teacher_cache())


def _as_json(entry: CacheEntry) -> dict[str, Any]:
    own = {"key": entry.key, "path": str(entry.path), "bytes": entry.size, "views": entry.views, "in_use": entry.in_use}
    return entry.facts | own


def _cells(entry: CacheEntry) -> tuple[str, ...]:
    """A row of the list. Facts come from a file: each may be missing or of any type."""

    def text(name: str) -> str:
        value = entry.facts.get(name)
        return plain(value, 32) if isinstance(value, str) else ""

    images = entry.facts.get("images")
    return (
        entry.key[:8],
        text("teacher"),
        text("arch"),
        text("dataset"),
        f"{images:,}" if isinstance(images, int) and abs(images) < 2**63 else "",
        str(max(entry.views.values())),
        "logits, features" if entry.views["features"] else "logits" if entry.views["logits"] else "half built",
        megabytes(entry.size),
        "yes" if entry.in_use else "",
        moment(entry.facts.get("created")),
    )
