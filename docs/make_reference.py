"""Writes the reference pages from the program itself: `python docs/make_reference.py`. A test compares them."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import typer
import typer.cli

import engine.events
from engine.preset import Preset
from mmkd_tui.cli.main import app

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/make_reference.py; change the program, not this page. -->\n\n"
LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {}",
    "maxItems": "at most {}",
}


def pages() -> dict[str, str]:
    """Each page's text by the name of its file."""
    found = {"commands.md": commands(), "presets.md": presets(), "events.md": events()}
    return {name: NOTE + re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n" for name, text in found.items()}


def commands() -> str:
    """As `--help` tells them."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="mmkd")
    text: str = typer.cli.get_docs_for_click(obj=command, ctx=context, name="mmkd", title="Commands")
    return text


def presets() -> str:
    """From the schema by which presets are checked."""
    schema = Preset.model_json_schema()
    lines = [
        "# Presets",
        "",
        "A preset is a YAML file; `mmkd presets show NAME` prints a shipped one, `mmkd presets check FILE` tells every mistake",
        "with its line, and `mmkd presets schema` prints the JSON Schema for editors. `--set KEY=VALUE` changes a setting by its",
        "dotted name.",
        "",
        "## The file",
        "",
        *_table(schema, schema["$defs"]),
    ]
    for name, part in schema["$defs"].items():
        lines += ["", f"## {_title(name)}", "", part.get("description", ""), "", *_table(part, schema["$defs"])]
    return "\n".join(lines)


def _title(part: str) -> str:
    return part.removesuffix("Part")


def _table(part: dict[str, Any], parts: dict[str, Any]) -> list[str]:
    rows = ["| setting | what it is | values | unit | default |", "| --- | --- | --- | --- | --- |"]
    for name, facts in part["properties"].items():
        default = "required" if name in part.get("required", ()) else _told(facts.get("default"))
        unit = facts.get("unit", "")
        cells = (f"`{name}`", facts.get("description", ""), _values(facts, parts), "" if unit == "none" else unit, default)
        rows.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return rows


def _values(facts: dict[str, Any], parts: dict[str, Any]) -> str:
    for key in ("$ref", "const", "enum"):
        if key in facts:
            value = facts[key]
            if key == "$ref":
                name = value.rsplit("/", 1)[-1]
                return f"[{_title(name)}](#{_title(name).lower()})" if name in parts else name
            return ", ".join(f"`{item}`" for item in (value if isinstance(value, list) else [value]))
    for key in ("anyOf", "oneOf"):
        if key in facts:
            return " or ".join(_values(choice, parts) for choice in facts[key])
    kind = {"null": "none", "number": "number", "integer": "whole number", "string": "text", "boolean": "true or false"}
    limits = ", ".join(text.format(facts[key]) for key, text in LIMITS.items() if key in facts)
    if facts.get("type") == "array":
        said = f"list of {_values(facts.get('items', {}), parts)}"
    else:
        said = kind.get(facts.get("type", "string"), str(facts.get("type", "")))
    if "pattern" in facts:
        said += f" of the form `{facts['pattern']}`"
    return f"{said}, {limits}" if limits else said


def _told(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return "its own defaults"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value not in ("", []) else "empty"


def events() -> str:
    """From the classes: docstrings, fields, and the remarks beside those."""
    source = inspect.getsource(engine.events)
    remarks = _remarks(source)
    about = inspect.getdoc(engine.events)
    lines = ["# Events", "", about or "", ""]
    for kind, cls in engine.events.KINDS.items():
        if not kind:
            continue  # a base, not an event
        lines += [f"## {kind}", "", inspect.getdoc(cls) or "", "", "| field | type | what it is |", "| --- | --- | --- |"]
        for name, field in cls.__dataclass_fields__.items():
            if name == "kind":
                continue
            remark = next((remarks[c.__name__, name] for c in cls.__mro__ if (c.__name__, name) in remarks), "")
            lines.append(f"| `{name}` | `{field.type}` | {remark} |".replace(" | None", " or null"))
        lines.append("")
    return "\n".join(lines)


def _remarks(source: str) -> dict[tuple[str, str], str]:
    """The comment at the end of each field's line, by class and field."""
    text = source.splitlines()
    found = {("Event", "t"): "seconds since the epoch"}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    _, _, remark = text[field.lineno - 1].partition("  # ")
                    if remark:
                        found[node.name, field.target.id] = remark
    return found


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(FOLDER / name)


if __name__ == "__main__":
    main()
