"""`mmkd bench`: the engine's benchmark, from the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from mmkd_tui.cli import exit_codes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.bench.cases import Plan
    from engine.bench.measure import Doing
    from engine.bench.report import Report
    from mmkd_tui.progress import RunConsole


def bench_command(
    case: Annotated[
        list[str] | None, typer.Option(help="vgg (if nothing is said), resnet, imagenet, tiny or all. May be given again.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object on stdout, on a line, for each case.")] = False,
    rounds: Annotated[int, typer.Option(help="Samples of each step; 7 at least.")] = 7,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES", help="Of naive,exact,auto,cached,aver,limit,student. May be given again (all).", show_default=False
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads (what PyTorch chooses).", show_default=False)] = None,
    scale: Annotated[
        bool, typer.Option("--scale", help="Also with 2 to 8 teachers, batch 32 to 512, 10 to 1000 classes.")
    ] = False,
) -> int:
    """Time MMKD on this machine beside simpler forms.

    Its naive form, equal weights and the limits. Median times of the mean iteration (a training step and its share of a meta
    step), images/s, peak memory and ratios, taken in turn in one process. Ctrl-C ends it with what has been measured. Exit codes:
    0 done, 2 a mistake, 130 stopped.

    Example: mmkd bench --case resnet --rounds 15
    """
    from engine.bench.cases import plan
    from mmkd_tui.progress import RunConsole

    asked = plan(case or (), only or (), device=device, rounds=rounds, threads=threads, scale=scale)
    return _run(asked, RunConsole(), as_json)


def _run(asked: Plan, console: RunConsole, as_json: bool) -> int:
    from engine.bench.bench import bench
    from engine.bench.report import as_text, growth

    reports: list[Report] = []
    for found in bench(asked, _Teller(console)):
        reports.append(found)
        _say(console, as_text(found))
        if as_json:
            typer.echo(json.dumps(found))
    _say(console, growth(reports))
    return exit_codes.INTERRUPTED if reports[-1]["interrupted"] else exit_codes.DONE


class _Teller:
    """One line that is written anew, in a terminal; elsewhere a line for each stage. It has no thread: that would be measured."""

    def __init__(self, console: RunConsole) -> None:
        self.console = console
        self.stage = ""

    def __call__(self, doing: Doing) -> None:
        if self.console.is_terminal:
            line = f"{doing.stage}: {doing.what}"[: self.console.width - 1]
            self.console.print(f"\r{line:<{self.console.width - 1}}", end="\r", style="dim", soft_wrap=True)
        elif doing.stage != self.stage:
            self.console.print(doing.stage, soft_wrap=True)
        self.stage = doing.stage


def _say(console: RunConsole, lines: Sequence[str]) -> None:
    if console.is_terminal:
        console.print(" " * (console.width - 1), end="\r", soft_wrap=True)  # wipes the teller's line
    for line in lines:
        console.print(line, soft_wrap=True)
