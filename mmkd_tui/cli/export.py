"""`mmkd export`: a run's student as a file for other programs, checked after it was written."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import UserError
from engine.text import plain
from mmkd_tui.cli.model_arguments import root_of, run_folder
from mmkd_tui.cli.options import AsJson, DataRoot, Plugin, RunsDir, load_plugins
from mmkd_tui.cli.table import megabytes, print_table
from mmkd_tui.cli.talk import say
from mmkd_tui.figures import percent

if TYPE_CHECKING:
    from engine.shipping.export import Exported


class Format(StrEnum):
    """As engine.shipping.writers has them."""

    SAFETENSORS = "safetensors"
    ONNX = "onnx"
    TORCH_EXPORT = "torch-export"


class Quantize(StrEnum):
    """The integers that weights and activations become."""

    INT8 = "int8"


def export_command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, a part of it, or its folder.")],
    format: Annotated[
        Format | None,
        typer.Option("--format", help="The file's format (onnx; with --hub-layout safetensors).", show_default=False),
    ] = None,
    quantize: Annotated[
        Quantize | None, typer.Option("--quantize", help="Smaller numbers in an ONNX file (none).", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where to (RUN/export/student.*).", show_default=False),
    ] = None,
    hub_layout: Annotated[
        Path | None,
        typer.Option(
            "--hub-layout",
            metavar="DIR",
            help="A folder as hubs have them, in place of a file: model.safetensors, config.json, README.md (none).",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        int, typer.Option("--images", min=0, help="Test images on which the file is held against the student; 0: all.")
    ] = 10_000,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="DIR", help="Where the run's own pictures lie by now (where they were).", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there already.")] = False,
    runs_dir: RunsDir = Path("runs"),
    data_root: DataRoot = None,
    plugin: Plugin = None,
    as_json: AsJson = False,
) -> None:
    """Write a run's student for other programs, and its model card.

    What was written is run beside the student on test images before it gets its name: the difference, its accuracy and its speed
    are told. Classes and preprocessing are in the file's metadata.

    Example: mmkd export quickstart --format onnx --quantize int8
    """
    load_plugins(plugin)
    if hub_layout is not None and (output is not None or format not in (None, Format.SAFETENSORS)):
        raise UserError("--hub-layout writes a folder with safetensors; leave --format and -o out")
    folder = run_folder(run, runs_dir)
    say("loading PyTorch ...")
    from engine.shipping.export import Wanted, export_run

    wanted = Wanted(
        format=str(format or (Format.SAFETENSORS if hub_layout else Format.ONNX)),
        int8=quantize is not None,
        output=output.expanduser() if output else None,
        hub=hub_layout.expanduser() if hub_layout else None,
        force=force,
        images=images,
        data=data,
    )
    found = export_run(folder, wanted, root_of(data_root, folder), say)
    _tell(found, hub_layout is not None)
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
        return
    typer.echo(plain(str(found.path)))
    _table(found)


def _tell(found: Exported, hub: bool) -> None:
    """What was found out, to stderr."""
    proof = found.proof
    say(f"{megabytes(found.bytes)}, run on {proof.images:,} test images beside the student: logits differ by at most "
        f"{proof.difference:.1e}, {percent(proof.same_class)} get the same class")  # fmt: skip
    if found.quantized is not None:
        lost = (proof.student_accuracy - proof.accuracy) * 100
        word = "loses" if lost > 0 else "gains" if lost < 0 else "loses no"
        points = f" {abs(lost):.2f} points of" if lost else ""
        tried = ", ".join(f"{way} {percent(share)}" for way, share in found.quantized.accuracies.items())
        say(f"int8 ({found.quantized.way}) {word}{points} accuracy; on the validation images that decided: {tried}")
    say(f"latency: median, CPU, {proof.threads} thread{'s' if proof.threads > 1 else ''}; model card: {found.card}")
    if hub:
        others = "mmkd predict, mmkd evaluate and engine.shipping.open_file do"
        say("timm loads it: timm.create_model('local-dir:DIR', pretrained=True)" if found.timm else
            f"timm has no such network, so it cannot load this folder; {others}")  # fmt: skip


def _table(found: Exported) -> None:
    proof = found.proof
    print_table(
        ("", "accuracy", "1 image", "64 images"),
        [
            ("student in PyTorch", percent(proof.student_accuracy), *_times(proof.student_latency)),
            (f"as {found.format}{' int8' if found.quantized else ''}", percent(proof.accuracy), *_times(proof.latency)),
        ],
        ("accuracy", "1 image", "64 images"),
    )


def _times(latency: object) -> tuple[str, str]:
    return tuple(f"{getattr(latency, name):.2f} ms" for name in ("single", "batch"))  # type: ignore[return-value]
