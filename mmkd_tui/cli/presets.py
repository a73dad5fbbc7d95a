"""`mmkd presets`: what is shipped, what a preset says, whether a file is right, and the schema for editors."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import PresetError, UserError
from engine.text import plain
from mmkd_tui.cli.group import command_group
from mmkd_tui.cli.options import STDIN, AsJson, Overrides, Plugin, load_plugins, read_named
from mmkd_tui.cli.table import print_table
from mmkd_tui.cli.talk import say

if TYPE_CHECKING:
    from engine.preset import Preset
    from engine.preset_yaml import PresetEntry

app = command_group("Presets: list, show and check them.", "mmkd presets list")

COLUMNS = ("name", "data set", "teachers → student", "method", "description")


@app.command("list")
def list_command(as_json: AsJson = False, plugin: Plugin = None) -> None:
    """List the presets that are shipped.

    Of your own in this folder, those that are wrong are told on stderr.

    Example: mmkd presets list --json
    """
    from engine.preset_yaml import list_presets, own_presets

    load_plugins(plugin)
    entries = list_presets()
    if as_json:
        typer.echo(json.dumps([_as_json(entry) for entry in entries], indent=2))
    else:
        print_table(COLUMNS, (_cells(entry) for entry in entries), whole=("name", "method"))
    for entry in own_presets(Path()):
        if entry.problems:
            more = f" (more: mmkd presets check {shlex.quote(str(entry.path))})" if len(entry.problems) > 1 else ""
            say(entry.problems[0] + more)


@app.command("show")
def show_command(
    preset: Annotated[str, typer.Argument(metavar="NAME_OR_PATH", help="A shipped preset's name, or a file; -: from stdin.")],
    overrides: Overrides = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="With every default filled in; so also with --set.")] = False,
    plugin: Plugin = None,
) -> None:
    """Show a preset as it stands, or with every default filled in.

    Example: mmkd presets show quickstart --resolved
    """
    from engine.preset_yaml import dump_preset, parse_preset

    load_plugins(plugin)
    text, source, _ = read_named(preset)
    if resolved or overrides:
        text = dump_preset(parse_preset(text, source, overrides or ()))
    typer.echo(plain(text.replace("\r\n", "\n").rstrip("\n"), keep="\n\t"))


@app.command("check")
def check_command(
    presets: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files, or names of shipped presets; -: from stdin.")],
    overrides: Overrides = None,
    plugin: Plugin = None,
) -> None:
    """Check presets.

    A line on stdout for each that is right, a line on stderr for each mistake.

    Example: mmkd presets check mine.yaml
    """
    from engine.preset_yaml import parse_preset

    load_plugins(plugin)
    problems: list[str] = []
    for name in presets:
        try:
            text, source, _ = read_named(name)
            preset = parse_preset(text, source, overrides or ())
            if plugin:
                _refuse_misfits(preset)
        except PresetError as error:
            problems.extend(error.problems)
        except UserError as error:
            problems.append(f"mmkd: {error}")
        else:
            typer.echo(f"{plain(source if name == STDIN else name)}: ok")
    if problems:
        raise PresetError(tuple(dict.fromkeys(problems)))  # a wrong override is one mistake, however many files


@app.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of presets, for editors.

    Example: mmkd presets schema > preset.schema.json
    """
    from engine.preset_yaml import preset_schema

    typer.echo(json.dumps(preset_schema(), indent=2))


def _refuse_misfits(preset: Preset) -> None:
    """UserError where a plugin's network does not fit the data set; one's own pictures are not read to learn their classes."""
    from engine.image_folders import sized
    from engine.models.build import refuse_misfits

    facts = sized(preset.dataset)
    if not facts.own:
        refuse_misfits(preset.networks, facts.channels, len(facts.classes), facts.size)


def _as_json(entry: PresetEntry) -> dict[str, Any]:
    preset = entry.preset
    return {
        "name": entry.name,
        "path": str(entry.path),
        "description": entry.description,
        "dataset": preset and preset.dataset.name,
        "teachers": [teacher.arch for teacher in preset.teachers] if preset else None,
        "student": preset and preset.student.arch,
        "method": preset and preset.method.name,
        "problem": entry.problem,
    }


def _cells(entry: PresetEntry) -> tuple[str, ...]:
    facts = _facts(entry.preset) if entry.preset else ("", "", "")
    return (entry.name, *facts, entry.problem or entry.description)


def _facts(preset: Preset) -> tuple[str, str, str]:
    counts: dict[str, int] = {}
    for teacher in preset.teachers:
        counts[teacher.arch] = counts.get(teacher.arch, 0) + 1
    teachers = ", ".join(arch if count == 1 else f"{count} × {arch}" for arch, count in counts.items())
    return preset.dataset.name, f"{teachers or 'none'} → {preset.student.arch}", preset.method.name
