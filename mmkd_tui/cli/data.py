"""`mmkd data`: which data sets there are, where they lie, fetching those that are missing, and checking those that are there."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import UserError
from engine.text import one_line, plain
from mmkd_tui.cli import exit_codes
from mmkd_tui.cli.group import command_group
from mmkd_tui.cli.model_arguments import Resize, Size
from mmkd_tui.cli.options import AsJson, DataRoot, data_root_of
from mmkd_tui.cli.table import print_table
from mmkd_tui.cli.talk import say

if TYPE_CHECKING:
    from engine.catalog import DatasetFacts
    from engine.fetching import Progress
    from engine.preset import DatasetPart

app = command_group("Data sets: list, fetch, check and show them.", "mmkd data list")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A data set of mmkd data list.")]
NameOrFolder = Annotated[
    str, typer.Argument(metavar="NAME|FOLDER", help="A data set of mmkd data list, or a folder of your own pictures or shards.")
]
Pictures = Annotated[
    Path | None,
    typer.Option("--path", help="The folder of your own pictures, for imagefolder and webdataset (none).", show_default=False),
]


@app.command("list")
def list_command(as_json: AsJson = False, data_root: DataRoot = None) -> None:
    """List the data sets, and where each of them lies.

    Example: mmkd data list
    """
    from engine.catalog import DATASETS

    known = [_as_json(facts, data_root_of(data_root)) for facts in DATASETS.values()]
    if as_json:
        typer.echo(json.dumps(known, indent=2))
        return
    columns = ("name", "training images", "test images", "classes", "pixels", "where")
    rows = (
        (
            one["name"],
            f"{one['train_images']:,}" if one["classes"] else "-",
            f"{one['test_images']:,}" if one["classes"] else "-",
            str(len(one["classes"])) if one["classes"] else "-",
            f"{one['size']}x{one['size']}x{one['channels']}",
            _where(one),
        )
        for one in known
    )
    print_table(columns, rows, columns[1:5])


@app.command("fetch")
def fetch_command(name: Name, data_root: DataRoot = None) -> None:
    """Download a data set to where runs look for it.

    Or unpack its archives there. Its folder is printed on stdout.

    Example: mmkd data fetch cifar-100
    """
    from engine.data_files import find_archives, find_files

    facts = _known(name)
    if facts.own:
        raise UserError(f"{name} is a folder of your own; name it in a preset: dataset: {{name: {name}, path: ...}}")
    if not facts.files:
        say(f"{name} is {facts.origin}: there is nothing to fetch")
        return
    root = data_root_of(data_root)
    found = find_files(facts, root)
    if found is not None:
        say(f"{name} is there already")
        typer.echo(plain(str(found.folder)))
        return
    say(f"unpacking {name} ..." if facts.licence or find_archives(facts, root) else f"fetching {name} from its publisher ...")
    with _progress() as tell:
        from engine.data import fetch_files

        folder = fetch_files(name, root, tell)
    typer.echo(plain(str(folder)))


@app.command("check")
def check_command(name: NameOrFolder, path: Pictures = None, as_json: AsJson = False, data_root: DataRoot = None) -> int:
    """Read all of a data set, and say what is broken.

    Images of each class, checksums of archives, every broken file (then the exit code is 1).

    Example: mmkd data check pictures/
    """
    part, root = _part(name, path), data_root_of(data_root)
    with contextlib.redirect_stdout(sys.stderr), _progress() as tell:
        from engine.data.check import check

        found = check(part, root, tell)
    if as_json:
        answer = {
            "name": found.name,
            "folder": found.folder,
            "splits": {
                split: dict(zip(found.classes, counts, strict=True)) if len(set(found.classes)) == len(counts) else counts
                for split, counts in found.splits.items()
            },
            "images": {split: sum(counts) for split, counts in found.splits.items()},
            "archives": found.archives,
            "broken": [{"file": file, "why": why} for file, why in found.broken],
            "notes": found.notes,
        }
        typer.echo(json.dumps(answer, indent=2))
    else:
        columns = ("class", *(f"{split} images" for split in found.splits))
        rows = (
            (one_line(label, 60), *(f"{counts[number]:,}" for counts in found.splits.values()))
            for number, label in enumerate(found.classes)
        )
        print_table(columns, rows, columns[1:])
        for archive, said in found.archives.items():
            say(f"{archive}: {said}")
        for note in found.notes:
            say(note)
        for file, why in found.broken:
            say(f"broken: {file}: {why}")
        total = sum(map(sum, found.splits.values()))
        say(f"{found.name}: {total:,} images read, {len(found.broken):,} broken ({found.folder})")
    return exit_codes.FAILED if found.broken else exit_codes.DONE


@app.command("show")
def show_command(
    name: NameOrFolder,
    path: Pictures = None,
    size: Size = None,
    resize: Resize = None,
    as_json: AsJson = False,
    data_root: DataRoot = None,
) -> None:
    """Show a data set's facts.

    Where it lies or what is missing, its splits, classes, and what is done to its images.

    Example: mmkd data show cifar-100
    """
    from engine.data_files import find_files, missing_files, remedy
    from engine.image_folders import facts_in, of_size, read_own, sized

    part, root = of_size(_part(name, path), size, resize), data_root_of(data_root)
    facts = sized(part)
    if part.path is not None:
        facts = facts_in(facts, read_own(part))  # however long that takes
    if facts.names_in_files and find_files(facts, root) is not None:
        from engine.data.load import class_names

        facts = replace(facts, classes=class_names(part, root))
    known = _as_json(facts, root)
    known["folder"] = part.path or known["folder"]
    present = known["present"]
    known["missing"] = [] if present else [str(missing_files(facts, root)[0] / file) for file in missing_files(facts, root)[1]]
    known["remedy"] = "" if present else remedy(facts, root)
    if as_json:
        typer.echo(json.dumps(known, indent=2))
        return
    own = facts.validation_images
    lines = {
        "title": facts.title,
        "where": str(known["folder"] or ("built in" if facts.embedded else f"missing: {', '.join(known['missing'])}")),
        "to do": known["remedy"],
        "origin": facts.origin,
        "training": f"{facts.train_images:,} images"
        + (", of which validation_fraction is held out" if own is None else f", and {own:,} for validation"),
        "test": f"{facts.test_images:,} images",
        "pixels": f"{facts.size}x{facts.size}, {facts.channels} channel{'s' * (facts.channels > 1)}",
        "training images": facts.augmentation,
        "mean, std": f"{facts.mean}, {facts.std}" if facts.mean else "computed from the training images",
        "archives": ", ".join(f"{one['name']} ({one['md5'] or 'no checksum published'})" for one in known["archives"]),
        "classes": f"{len(facts.classes)}, named in its files"
        if facts.names_in_files
        else f"{len(facts.classes)}: {', '.join(facts.classes)}",
    }
    for key, value in lines.items():
        if value:
            typer.echo(f"{key + ':':<17}{one_line(value)}")


def _known(name: str, or_else: str = "") -> DatasetFacts:
    from engine import catalog

    facts = catalog.DATASETS.get(name)
    if facts is None:
        likely = catalog.nearest(name, catalog.DATASETS)
        hint = f"did you mean '{likely}'?" if likely else f"one of {', '.join(catalog.DATASETS)}"
        raise UserError(f"there is no data set '{name[:64]}'{or_else}; {hint}")
    return facts


def _part(name: str, path: Path | None) -> DatasetPart:
    """The data set that is asked for."""
    from engine.catalog import DATASETS
    from engine.image_folders import own_part
    from engine.paths import is_folder
    from engine.preset import DatasetPart

    if name not in DATASETS and is_folder(folder := Path(name).expanduser()):
        if path is not None:
            raise UserError(f"{name} is a folder of your own already; leave --path out")
        return own_part(folder)
    if _known(name, ", and no such folder of pictures").own != (path is not None):
        raise UserError(
            f"{name} needs --path FOLDER" if path is None else f"{name} takes no --path; only imagefolder and webdataset do"
        )
    return DatasetPart(name=name, path=None if path is None else str(path.expanduser().absolute()))


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """A bar on stderr where that is a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda progress: None
        return
    words = TextColumn("{task.description}", markup=False)
    tail = (BarColumn(), TimeRemainingColumn())
    bytes_ = Bars(words, *tail, DownloadColumn(), console=console, transient=True)
    counted = Bars(words, *tail, MofNCompleteColumn(), console=console, transient=True)
    shown: dict[tuple[str, str], Any] = {}
    with contextlib.ExitStack() as held:
        started: set[int] = set()

        def tell(progress: Progress) -> None:
            bars = counted if progress.what in ("decoding", "reading") else bytes_
            if id(bars) not in started:
                for other in (bytes_, counted):
                    other.stop()
                started.add(id(bars))
                bars.start()
                held.callback(bars.stop)
            key = (progress.what, progress.name)
            if key not in shown:
                shown[key] = bars.add_task(plain(f"{progress.what} {progress.name}", 60), total=progress.total)
            bars.update(shown[key], completed=progress.done, total=progress.total)

        yield tell


def _as_json(facts: DatasetFacts, root: Path) -> dict[str, Any]:
    from engine.data_files import find_files

    found = find_files(facts, root) if facts.files else None
    return {
        "name": facts.name,
        "title": facts.title,
        "train_images": facts.train_images,
        "test_images": facts.test_images,
        "classes": facts.classes,
        "names_in_files": facts.names_in_files,
        "channels": facts.channels,
        "size": facts.size,
        "resize": facts.scaled_to,
        "origin": facts.origin,
        "embedded": facts.embedded,
        "present": facts.embedded or found is not None or (facts.own and bool(facts.classes)),
        "folder": str(found.folder) if found else None,
        "archives": [{"name": one.name, "url": one.url or None, "md5": one.md5} for one in facts.archives],
        "licence": facts.licence or None,
        "augmentation": facts.augmentation,
        "in_files": facts.from_files,
    }


def _where(known: dict[str, Any]) -> str:
    if known["embedded"] or (not known["archives"] and known["in_files"]):
        return str(known["origin"])
    if known["folder"]:
        return str(known["folder"])
    return f"missing: mmkd data {'show' if known['licence'] else 'fetch'} {known['name']}"
