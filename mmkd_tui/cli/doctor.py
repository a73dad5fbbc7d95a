"""`mmkd doctor`: what this machine has, what is wrong with it, and how that is mended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from engine.text import plain
from mmkd_tui.cli import exit_codes
from mmkd_tui.cli.options import AsJson, DataRoot, RunsDir, data_root_of
from mmkd_tui.cli.talk import say

if TYPE_CHECKING:
    from engine.doctor import Finding

SIGNS = {"ok": " ", "note": "-", "warning": "!", "problem": "X"}
NAME = 14  # columns


def doctor_command(runs_dir: RunsDir = Path("runs"), data_root: DataRoot = None, as_json: AsJson = False) -> int:
    """Say what is wrong on this machine, and how to mend it.

    It looks at versions, devices, data, disks, terminal and session.

    Exit codes: 0 nothing that stands in the way (there may be warnings, `!`), 1 problems (`X`).

    Example: mmkd doctor --json
    """
    if not as_json:
        say("loading PyTorch ...")
    found: list[Finding] = []
    for finding in _findings(runs_dir.expanduser(), data_root_of(data_root)):
        if not as_json and (not found or found[-1].section != finding.section):
            typer.echo(("\n" if found else "") + finding.section)
        found.append(finding)
        if not as_json:
            _show(finding)
    problems = sum(finding.grade == "problem" for finding in found)
    warnings = sum(finding.grade == "warning" for finding in found)
    if as_json:
        typer.echo(json.dumps({"problems": problems, "warnings": warnings, "findings": [asdict(one) for one in found]}, indent=2))
    else:
        say("")
        say(f"{_count(problems, 'problem')}, {_count(warnings, 'warning')}" if problems or warnings else "all is well")
    return exit_codes.FAILED if problems else exit_codes.DONE


def _findings(runs: Path, data_root: Path) -> Iterator[Finding]:
    from engine.doctor import examine
    from mmkd_tui import terminal

    yield from examine(runs, data_root)
    yield from terminal.findings()


def _show(finding: Finding) -> None:
    typer.echo(f"{SIGNS[finding.grade]} {plain(finding.name):{NAME}}  {plain(finding.value)}")
    if finding.remedy:
        typer.echo(f"  {'':{NAME}}  {plain(finding.remedy)}")


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'s' * (number != 1)}"
