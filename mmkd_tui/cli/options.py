"""Options that several commands have, and what they mean."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import PresetError, UserError

if TYPE_CHECKING:
    from engine.preset import Preset

Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting (train.epochs=3); may be given again (none)."),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N (the preset's hardware.device).", show_default=False)]
DataRoot = Annotated[Path | None, typer.Option(help="Where data sets lie (MMKD_DATA, else your cache).", show_default=False)]
RunsDir = Annotated[Path, typer.Option(help="Where the runs' folders are.")]
Force = Annotated[bool, typer.Option("--force", help="Start even where another run is at work on the same GPU.")]
Gpus = Annotated[
    int,
    typer.Option(
        "--gpus",
        metavar="N",
        min=1,
        help="Train with N processes, each on a GPU of its own (on a processor: on shares of its cores). "
        "train.batch_size is that of each process.",
    ),
]
Restarts = Annotated[
    int, typer.Option("--max-restarts", metavar="N", min=0, help="With --gpus: how often to go on when a process is lost.")
]
SameGpus = Annotated[
    int | None,
    typer.Option(
        "--gpus",
        metavar="N",
        min=1,
        help="Go on with N processes, as with `mmkd run --gpus` (as many as were at work on it last). Another number changes how "
        "many images a step has.",
        show_default=False,
    ),
]
Plugin = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE",
        help="A Python file that is run to register your own architectures; may be given again (none).",
    ),
]
STDIN = "-"  # in place of a preset's name
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable, on stdout.")]


def data_root_of(given: Path | None) -> Path:
    """What --data-root says, else MMKD_DATA, else the cache."""
    from engine import paths

    return given.expanduser().absolute() if given else paths.data_root()


def load_plugins(files: Sequence[Path] | None) -> None:
    """Runs the files of --plugin, before any preset is read that may name what they register."""
    if files:
        from engine import plugins

        plugins.load_plugins(files)


def load_named(name: str, overrides: Sequence[str] | None, device: str | None = None, seed: int | None = None) -> Preset:
    """A preset by its name or path (or from stdin), changed by the options; a mistake in an option is told in its words."""
    from engine.preset_yaml import parse_preset

    text, source, folder = read_named(name)
    with as_overrides(device, seed) as own:
        return parse_preset(text, source, [*(overrides or ()), *own]).anchored(folder)


def read_named(name: str) -> tuple[str, str, Path]:
    """The text of a preset by its name or path ("-": what comes on stdin), what messages call it, and the folder that relative
    paths in it are of.
    """
    from engine.preset_yaml import decoded, find_preset, read_text
    from engine.yaml_lines import MAX_BYTES

    if name != STDIN:
        path = find_preset(name)
        return read_text(path), str(path), path.parent
    try:
        return decoded(sys.stdin.buffer.read(MAX_BYTES + 1), "stdin"), "stdin", Path()
    except OSError as error:
        raise UserError(f"stdin cannot be read ({error.strerror or error}); give the path of a YAML file") from error


@contextmanager
def as_overrides(device: str | None, seed: int | None = None) -> Iterator[list[str]]:
    """--device and --seed as KEY=VALUE; a mistake that they make is told once, whatever it is made in, and in their words."""
    from engine.overrides import source_of

    options = {"--device": ("hardware.device", device), "--seed": ("seed", seed)}
    own = {option: f"{key}={json.dumps(value)}" for option, (key, value) in options.items() if value is not None}
    try:
        yield list(own.values())
    except PresetError as error:
        lines = error.problems
        for option, override in own.items():
            # A table says after the option in which of its methods the key is wrong.
            said = re.compile(rf"^{re.escape(source_of(override))}: (.*?{re.escape(options[option][0])}: )?")
            lines = tuple(said.sub(f"{option}: ", line) for line in lines)
        raise PresetError(tuple(dict.fromkeys(lines))) from None
