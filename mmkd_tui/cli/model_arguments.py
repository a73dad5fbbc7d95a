"""What the commands that ask models have in common: which model is meant, and where its data lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import UserError
from engine.tensor_header import HUB_WEIGHTS
from engine.text import one_line
from mmkd_tui.cli.options import data_root_of
from mmkd_tui.cli.talk import say

if TYPE_CHECKING:
    from engine.preset import Preset
    from engine.shipping.facts import ModelFacts
    from engine.shipping.opening import Model

SUFFIXES = (".safetensors", ".onnx", ".pt2", ".pt", ".pth")  # of files with weights
ModelName = Annotated[
    str, typer.Argument(metavar="RUN|FILE", help="A run's name, a part of it or its folder; a model file, or a hub's folder.")
]
Arch = Annotated[
    str | None,
    typer.Option(
        "--arch", metavar="A", help="The architecture of a file that does not say its own (the file's).", show_default=False
    ),
]
Size = Annotated[
    int | None, typer.Option(min=16, max=1024, help="Pixels along a side of pictures in files (224).", show_default=False)
]
Resize = Annotated[
    int | None,
    typer.Option(
        min=16,
        max=2048,
        help="Pixels of a picture's shorter side before its middle is taken (size * 256 / 224).",
        show_default=False,
    ),
]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda or cuda:N (auto); ONNX files run on the CPU.", show_default=False)
]
Trust = Annotated[bool, typer.Option("--trust", help="Read a .pt2 file, which means to run what is in it.")]


def file_or_run(name: str, runs_dir: Path) -> tuple[Path | None, Path | None]:
    """The file, or folder as hubs have them, that RUN|FILE names; or the run's folder. UserError where there is neither."""
    path = Path(name).expanduser()
    try:
        if path.is_file() or (path / HUB_WEIGHTS).is_file():
            return path, None
    except (OSError, ValueError):  # no file can have such a name
        pass
    if path.suffix in SUFFIXES and not path.exists():
        raise UserError(f"{name} does not exist; name a run or a model file")
    return None, run_folder(name, runs_dir)


def run_folder(name: str, runs_dir: Path) -> Path:
    """The folder of a run; one that is at work is told so. UserError where there is none."""
    from engine.run_list import find_run, summary

    path = find_run(runs_dir.expanduser(), name)
    if (run := summary(path)).state.live and not run.only_teachers:
        say(f"{path.name} is {run.state}: this is its best student so far")
    return path


def root_of(given: Path | None, run: Path | None) -> Path:
    """What --data-root says, else where the run found its data, else as for every command."""
    from engine.untrusted import as_text, read_object

    if given is None and run is not None:
        recorded = as_text((read_object(run / "meta.json") or {}).get("data_root"))
        if recorded and Path(recorded).is_dir():
            return Path(recorded)
    return data_root_of(given)


def _device(given: str | None) -> Any:
    """What --device says; else a GPU where there is one. UserError where it is none, or not on this machine."""
    from pydantic import ValidationError

    from engine.device import resolve_device
    from engine.preset import HardwarePart

    try:
        return resolve_device(HardwarePart(device=given or "auto"))
    except ValidationError:
        raise UserError(f"--device is {one_line(given or '', 40)}; give auto, cpu, cuda or cuda:N") from None


def _tell_unused(model: Model, size: int | None, resize: int | None) -> None:
    """A model that says how pictures are prepared is not asked in another way."""
    if not model.assumed and (size or resize):
        say(f"--size and --resize change nothing: {model.name} says how its pictures are prepared")


def opened(
    file: Path | None,
    folder: Path | None,
    device: str | None,
    *,
    arch: str | None,
    trust: bool,
    data: str | None,
    size: int | None = None,
    resize: int | None = None,
    data_root: Path,
) -> tuple[Model, Preset | None]:
    """The model in a file or a run's folder, and the run's preset. `data` names what is assumed of a file that says nothing."""
    from engine.shipping.evaluate import dataset_part, facts_of, opened_images
    from engine.shipping.opening import open_file, open_run

    where = _device(device)
    if file is None:
        assert folder is not None
        if arch is not None:
            raise UserError("--arch is for files; a run knows its student's architecture")
        model, preset = open_run(folder, where)
        _tell_unused(model, size, resize)
        return model, preset

    def assume() -> ModelFacts:
        with opened_images(dataset_part(data or "", size=size, resize=resize), data_root, where, say) as images:
            return facts_of(images)

    model = open_file(file, arch=arch, assume=assume if data else None, device=where, trust=trust)
    _tell_unused(model, size, resize)
    if model.assumed:
        say(f"assumed, since {file.name} does not say it: {model.facts.preprocessing.words()}; "
            f"{len(model.facts.classes)} classes in the order of {model.facts.dataset}")  # fmt: skip
    return model, None
