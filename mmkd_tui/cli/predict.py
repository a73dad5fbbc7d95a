"""`mmkd predict`: what a run's student or a model file sees in pictures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import UserError
from engine.text import one_line, plain
from mmkd_tui.cli import exit_codes
from mmkd_tui.cli.model_arguments import Arch, Device, ModelName, Resize, Size, Trust, file_or_run, opened, root_of
from mmkd_tui.cli.options import DataRoot, Plugin, RunsDir, load_plugins
from mmkd_tui.cli.talk import say
from mmkd_tui.figures import percent

if TYPE_CHECKING:
    from engine.preprocessing import Preprocessing
    from engine.shipping.opening import Seen


def predict_command(
    model: ModelName,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="PNG, JPEG and other picture files, or folders that hold some.")
    ],
    top: Annotated[int, typer.Option("--top", min=1, metavar="N", help="So many of the likeliest classes.")] = 5,
    arch: Arch = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="D", help="The data set of a file that does not name its classes (the file's).", show_default=False
        ),
    ] = None,
    size: Size = None,
    resize: Resize = None,
    device: Device = None,
    runs_dir: RunsDir = Path("runs"),
    data_root: DataRoot = None,
    plugin: Plugin = None,
    trust: Trust = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object on stdout, on a line, for each picture.")] = False,
) -> int:
    """Name the likeliest classes of pictures, and how likely.

    A picture is prepared as test images were in the run: colours, size and normalisation. Exit codes: 0 all were read, 1 some
    could not be (they are named, and the others are told), 2 a mistake in what was asked.

    Example: mmkd predict student.onnx picture.png
    """
    load_plugins(plugin)
    file, folder = file_or_run(model, runs_dir)
    given = [path.expanduser() for path in images]
    paths = [path for one in given for path in _pictures(one)]
    say("loading PyTorch ...")
    root = root_of(data_root, folder)
    found, _ = opened(file, folder, device, arch=arch, trust=trust, data=data, size=size, resize=resize, data_root=root)
    broken, seen_all = 0, []
    for seen in found.predict(paths, top):
        broken += bool(seen.broken)
        seen_all.append(seen)
        if as_json:
            typer.echo(json.dumps(_as_json(seen)))
        else:
            for line in _lines(seen, len(paths) > 1 or paths != given):
                typer.echo(line)
        if seen.broken:
            say(f"{seen.path} cannot be read: {seen.broken}")
    _tell_converted(seen_all, found.facts.preprocessing)
    return exit_codes.FAILED if broken else exit_codes.DONE


def _pictures(given: Path) -> list[Path]:
    """A picture's file itself; of a folder, those directly in it, by name. UserError where it has none, or cannot be read."""
    from engine.paths import is_folder

    if not is_folder(given):
        return [given]
    try:
        names = sorted(entry.name for entry in os.scandir(given) if entry.is_file() and not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{given} cannot be read: {error.strerror or error}") from error
    from engine.image_folders import SUFFIXES

    found = [given / name for name in names if Path(name).suffix.lower() in SUFFIXES]
    if not found:
        raise UserError(f"{given} is a folder with no picture directly in it; name pictures, or a folder that holds some")
    return found


def _as_json(seen: Seen) -> dict[str, object]:
    if seen.broken:
        return {"image": str(seen.path), "error": seen.broken}
    top = [{"class": name, "number": number, "probability": share} for number, name, share in seen.top]
    return {"image": str(seen.path), "top": top}


def _lines(seen: Seen, several: bool) -> Iterator[str]:
    if seen.broken:
        return
    if several:
        yield plain(str(seen.path))
    for _, name, share in seen.top:
        yield f"{percent(share):>9}  {one_line(name, 100)}"


def _tell_converted(seen: list[Seen], prepared: Preprocessing) -> None:
    """That the network takes pictures of another size is worth a line, unless any size is usual for it."""
    other = [one for one in seen if not one.broken and (one.width, one.height) != (prepared.size, prepared.size)]
    if other and prepared.resize == prepared.size:
        first = other[0]
        say(f"{len(other)} of {len(seen)} pictures are not of {prepared.size}x{prepared.size} pixels (the first: {first.path}, "
            f"{first.width}x{first.height}): the shorter side is scaled to {prepared.size}, and the middle is taken"
            f"{', in grey' if prepared.channels == 1 else ''}")  # fmt: skip
