"""`mmkd evaluate`: how good a run's student or a model file is on a data set, and how it agrees with its teachers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.text import one_line
from mmkd_tui.cli.model_arguments import Arch, Device, ModelName, Resize, Size, Trust, file_or_run, opened, root_of
from mmkd_tui.cli.options import AsJson, DataRoot, Plugin, RunsDir, load_plugins
from mmkd_tui.cli.table import print_table
from mmkd_tui.cli.talk import say
from mmkd_tui.figures import percent

if TYPE_CHECKING:
    from engine.shipping.evaluate import Evaluation

MOST_CLASSES = 40  # rows; of more, only the worst are shown
WORST = 10


def evaluate_command(
    model: ModelName,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="D", help="A data set, or a folder of pictures or shards (the model's own).", show_default=False
        ),
    ] = None,
    size: Size = None,
    resize: Resize = None,
    arch: Arch = None,
    device: Device = None,
    runs_dir: RunsDir = Path("runs"),
    data_root: DataRoot = None,
    plugin: Plugin = None,
    trust: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Measure a model on test images.

    Top-1 and top-5 accuracy, loss (mean negative log-likelihood), expected calibration error (15 bins), accuracy of each class
    and, of a run, agreement with each of its teachers.

    Example: mmkd evaluate student.onnx --data digits
    """
    load_plugins(plugin)
    file, folder = file_or_run(model, runs_dir)
    say("loading PyTorch ...")
    from engine import paths
    from engine.shipping.evaluate import dataset_part, evaluate, opened_images, teachers_of
    from engine.teachers.store import TeacherStore

    root = root_of(data_root, folder)
    found, preset = opened(file, folder, device, arch=arch, trust=trust, data=data, size=size, resize=resize, data_root=root)
    asked = data or (preset.dataset.name if preset is not None else found.facts.dataset)
    part = dataset_part(asked, preset, size, found.facts.split_seed, resize if found.assumed else None)
    teachers = []
    if folder is not None and preset is not None:
        teachers = teachers_of(folder, preset, found.facts, TeacherStore(paths.teacher_store()))
    with opened_images(part, root, found.device, say) as images:
        result = evaluate(found, images, teachers)
    for note in result.notes:
        say(note)
    if as_json:
        typer.echo(json.dumps({"model": found.name, "kind": found.kind, "arch": found.facts.arch} | result.to_json(), indent=2))
    else:
        _tell(result)


def _tell(found: Evaluation) -> None:
    scores = found.scores
    rows = [
        ("test images", f"{scores.images:,}"),
        ("top-1 accuracy", percent(scores.top1)),
        *([("top-5 accuracy", percent(scores.top5))] if scores.top5 is not None else []),
        ("loss", f"{scores.loss:.4f}"),
        ("calibration error", percent(scores.calibration_error)),
    ]
    print_table((f"on {found.dataset}", ""), rows, ("",))
    if found.teachers:
        typer.echo()
        cells = [(t.name, _percent(t.accuracy), _percent(t.agreement)) for t in found.teachers]
        print_table(("teacher", "accuracy", "agrees"), cells, ("accuracy", "agrees"))
        for teacher in found.teachers:
            if teacher.missing:
                say(f"teacher {teacher.name} is not at hand: {teacher.missing}")
    typer.echo()
    classes = [(name, count, share) for name, (count, share) in zip(found.classes, scores.per_class, strict=True)]
    if len(classes) > MOST_CLASSES:
        classes = sorted((c for c in classes if c[2] is not None), key=lambda one: one[2] or 0.0)[:WORST]
        say(f"the {WORST} worst of {len(found.classes)} classes; --json has all")
    print_table(
        ("class", "images", "accuracy"),
        [(one_line(name, 60), f"{count:,}", _percent(share)) for name, count, share in classes],
        ("images", "accuracy"),
    )


def _percent(share: float | None) -> str:
    return percent(share) or "n/a"
