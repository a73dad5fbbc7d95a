"""`mmkd teachers check`: whether a file of weights fits an architecture, and how good it is on a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.architectures import every_name, is_architecture
from engine.errors import UserError
from engine.text import one_line
from mmkd_tui.cli import exit_codes
from mmkd_tui.cli.model_arguments import Resize, Size
from mmkd_tui.cli.options import AsJson, DataRoot, Device, Plugin, data_root_of, load_plugins
from mmkd_tui.cli.talk import say
from mmkd_tui.figures import percent

if TYPE_CHECKING:
    from engine.teachers.check import Checked

MOST_NAMES = 10  # of classes
MOST_ROWS = 40  # of the table of what does not fit


def check_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .safetensors or PyTorch file with a network's weights.")],
    arch: Annotated[str, typer.Option("--arch", metavar="A", help="Its architecture, as presets name it.")],
    data: Annotated[
        str,
        typer.Option(
            "--data", metavar="D", help="The data set, or folder of pictures or shards, on whose test images it is measured."
        ),
    ],
    size: Size = None,
    resize: Resize = None,
    features: Annotated[
        str | None, typer.Option(help="The module that gives its feature map (the last before the pooling).", show_default=False)
    ] = None,
    device: Device = None,
    data_root: DataRoot = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> int:
    """Load a checkpoint as a run would, and measure it.

    Exit codes: 0 it can teach, 1 it does not fit or is no better than guessing, 2 a mistake in what was asked.

    Example: mmkd teachers check teacher.pth --arch resnet20 --data pictures/
    """
    load_plugins(plugin)
    say("loading PyTorch ...")
    if not is_architecture(arch):
        from engine.models.library import meant_by

        hint = meant_by(arch) or f"for example {', '.join(every_name()[:5])}"
        raise UserError(f"--arch {one_line(arch, 80)}: there is none of that name; {hint}")
    from engine.shipping.evaluate import dataset_part
    from engine.teachers.check import check_teacher

    part = dataset_part(data, size=size, resize=resize)
    found = check_teacher(file.expanduser(), arch, part, data_root_of(data_root), device or "auto", features, say)
    if as_json:
        typer.echo(json.dumps({"file": str(file), "arch": arch, "data": data} | found.to_json(), indent=2))
    else:
        _tell(found, file, arch, data)
    return exit_codes.DONE if found.usable else exit_codes.FAILED


def _tell(found: Checked, file: Path, arch: str, data: str) -> None:
    """What does not fit to stderr, as a table; the measurement to stdout, as one line."""
    classes = found.assumed.classes
    names = one_line(", ".join(classes[:MOST_NAMES]), 200) + (", ..." if len(classes) > MOST_NAMES else "")
    say(f"assumed: {len(classes)} classes in the order of {data} ({names}); {found.assumed.prepared.words()}")
    for said in (found.unsaid, found.contents.sentence(), found.fit.left_out()):
        if said:
            say(said)
    if found.fit.renamed:
        theirs, ours = found.fit.renamed[0]
        say(f"{len(found.fit.renamed)} tensors go by other names there, as {one_line(theirs, 80)} for {ours}")
    if not found.fit.whole:
        _table(found)
        say(f"{file} does not fit {arch} on {data}; {found.remedy}")
        return
    assert found.accuracy is not None
    typer.echo(f"{percent(found.accuracy)} of {found.images:,} test images; always naming one class: {percent(found.chance)}")
    if not found.finite:
        say("its logits are not all finite numbers; it can be no teacher")
    elif not found.usable:
        say(f"it is no better than guessing (more than {percent(found.needed)} is asked for): check its architecture, the order "
            "of its classes and how its pixels were scaled and normalised")  # fmt: skip


def _table(found: Checked) -> None:
    def shape(values: tuple[int, ...]) -> str:
        return "x".join(map(str, values)) or "scalar"

    rows = [("missing", name, "", "") for name in found.fit.missing]
    rows += [("too many", name, "", "") for name in found.fit.unknown]
    rows += [("shape", name, shape(there), shape(here)) for name, there, here in found.fit.shapes]
    titles = ("what", "tensor", "in the file", "in the architecture")
    clean = [tuple(one_line(cell, 60) for cell in row) for row in rows[:MOST_ROWS]]
    widths = [max(len(row[place]) for row in [titles, *clean]) for place in range(4)]
    for row in [titles, *clean]:
        say("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    if len(rows) > MOST_ROWS:
        say(f"and {len(rows) - MOST_ROWS} more")
