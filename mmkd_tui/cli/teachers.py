"""`mmkd teachers`: the trained networks that runs find again, and training those that are not there yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import UserError
from engine.text import plain
from mmkd_tui.cli import exit_codes
from mmkd_tui.cli.group import command_group
from mmkd_tui.cli.options import (
    AsJson,
    DataRoot,
    Device,
    Force,
    Gpus,
    Overrides,
    Plugin,
    Restarts,
    load_named,
    load_plugins,
)
from mmkd_tui.cli.table import megabytes, print_table
from mmkd_tui.cli.talk import removed, say, told
from mmkd_tui.cli.teacher_check import check_command
from mmkd_tui.figures import moment, percent

if TYPE_CHECKING:
    from engine.preset import Preset
    from engine.teachers.store import Stored, TeacherStore

app = command_group("Trained teachers: list, show, remove, train and check them.", "mmkd teachers list")
app.command("check")(check_command)

COLUMNS = ("key", "architecture", "data set", "seed", "epochs", "test accuracy", "parameters", "size", "made")
NUMBERS = COLUMNS[3:8]
SUFFIX = "-teachers"  # of the names of runs that train teachers alone
MOST_NAME = 64  # characters of a preset's name


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """List the trained networks in the store, the newest last.

    Example: mmkd teachers list --json
    """
    store = _store()
    entries = store.listed()
    if as_json:
        typer.echo(json.dumps([_as_json(entry) for entry in entries], indent=2))
    elif entries:
        print_table(COLUMNS, (_cells(entry) for entry in entries), NUMBERS)
        for entry in entries:
            if entry.trouble:
                say(f"{entry.key[:8]} cannot be used: {entry.trouble}")
    else:
        say(f"no teachers in {store.root} yet; mmkd teachers train PRESET trains some and keeps them, and so does mmkd run")


@app.command("show")
def show_command(
    key: Annotated[str, typer.Argument(metavar="KEY", help="A key, or how it begins.")],
    as_json: AsJson = False,
) -> None:
    """Show all that is known of one trained network.

    Example: mmkd teachers show 3f2a
    """
    known = _as_json(_store().named(key))
    if as_json:
        typer.echo(json.dumps(known, indent=2))
        return
    width = max(len(plain(name)) for name in known)
    for name, value in known.items():
        text = value if isinstance(value, str) else json.dumps(value)
        typer.echo(f"{plain(name):{width}}  {plain(text)}")


@app.command("rm")
def rm_command(
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="Keys, or how they begin.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """Remove trained networks from the store.

    Example: mmkd teachers rm 3f2a 91bc
    """
    store = _store()
    chosen = list({entry.key: entry for entry in (store.named(key) for key in keys)}.values())
    return removed("teacher", chosen, _cells, store.remove, yes)


@app.command("train")
def train_command(
    preset: Annotated[str, typer.Argument(metavar="PRESET", help="A shipped preset's name, or a file; -: from stdin.")],
    overrides: Overrides = None,
    device: Device = None,
    data_root: DataRoot = None,
    runs_dir: Annotated[Path, typer.Option(help="Where the run's folder is made.")] = Path("runs"),
    force: Force = False,
    plugin: Plugin = None,
    gpus: Gpus = 1,
    restarts: Restarts = 0,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one JSON object on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors, and what is told on stdout.")] = False,
) -> int:
    """Train the teachers of a preset that are not in the store yet.

    Every later run that asks for the same finds them. It is a run as those of `mmkd run`, of the preset with only_teachers: true:
    it has a folder and checkpoints, outlives its terminal, and can be watched, stopped and resumed. A line on stdout for each
    teacher: key, label, test accuracy, and where it is from.

    Example: mmkd teachers train quickstart
    """
    from mmkd_tui.cli.run import train
    from mmkd_tui.progress import RunConsole

    load_plugins(plugin)
    chosen = _teachers_of(load_named(preset, overrides, device))
    console = RunConsole()
    result, code = train(chosen, console, data_root, runs_dir, force=force, gpus=gpus, restarts=restarts, quiet=quiet)
    known = [teacher for teacher in result["teachers"] if teacher["accuracy"] is not None]
    heard = told([json.dumps(result)] if as_json else [_line(teacher) for teacher in known], result["run_dir"])
    return code if heard else code or exit_codes.FAILED


def _teachers_of(preset: Preset) -> Preset:
    """The same teachers, for a run that ends with them, under a name that says so. UserError where there are none to train."""
    if not preset.teachers:
        raise UserError(f"{preset.name} has no teachers; name a preset that has some")
    if preset.method.name == "ce":
        raise UserError(
            f"{preset.name}: its method, ce, learns from no teachers; name a preset that does, or add --set method.name=aver"
        )
    if preset.only_teachers:
        return preset
    return preset.model_copy(update={"only_teachers": True, "name": preset.name[: MOST_NAME - len(SUFFIX)] + SUFFIX})


def _line(teacher: Mapping[str, Any]) -> str:
    words = {"trained": "trained", "store": "found in the store", "checkpoint": "from its checkpoint"}
    source = words.get(teacher["source"], "its library's weights")
    return f"{teacher['key'] or '-':16}  {plain(teacher['name'])}  {teacher['accuracy']:.4f}  {source}"


def _store() -> TeacherStore:
    from engine import paths
    from engine.teachers.store import TeacherStore

    return TeacherStore(paths.teacher_store())


def _as_json(entry: Stored) -> dict[str, Any]:
    return entry.facts | {"key": entry.key, "path": str(entry.path)} | ({"trouble": entry.trouble} if entry.trouble else {})


def _cells(entry: Stored) -> tuple[str, ...]:
    """A row of the list. Facts come from a file: each may be missing or of any type."""

    def part(name: str) -> dict[str, Any]:
        value = entry.facts.get(name)
        return value if isinstance(value, dict) else {}

    def number(value: object, shown: Callable[[Any], str] = str) -> str:
        known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63
        return shown(value) if known else ""

    def text(value: object) -> str:
        return plain(value, 32) if isinstance(value, str) else ""

    def dataset() -> str:
        path, noise = part("dataset").get("path"), part("recipe").get("label_noise")
        folder = text(Path(path).name) if isinstance(path, str) else ""
        more = [said for said in (folder, number(noise, lambda share: f"{percent(share, 0)} noise" if share else "")) if said]
        return text(part("dataset").get("name")) + (f" ({', '.join(more)})" if more else "")

    return (
        entry.key[:8],
        text(entry.facts.get("arch")),
        dataset(),
        number(entry.facts.get("seed")),
        number(part("recipe").get("epochs")),
        number(entry.facts.get("accuracy"), percent),
        number(entry.facts.get("parameters"), "{:,}".format),
        megabytes(entry.size) + ", unusable" * bool(entry.trouble),
        moment(entry.facts.get("created")),
    )
