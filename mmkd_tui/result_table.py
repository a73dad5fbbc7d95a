"""The table at a run's end: each teacher, their plain average, the student alone, the student distilled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from engine.text import plain
from mmkd_tui.figures import percent
from mmkd_tui.progress import weight_cell

BAR = 8  # columns of a weight bar: with the longest name, the table fits 80 columns


def result_table(result: Mapping[str, Any], ascii_only: bool = False) -> Table:
    """From what stands in `result.json`."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("network", no_wrap=True)
    table.add_column("test accuracy", justify="right")
    table.add_column("logit weight", no_wrap=True)
    table.add_column("feature weight", no_wrap=True)
    for teacher in result["teachers"]:
        weights = (teacher["logit_weight"], teacher["feature_weight"])
        cells = (weight_cell(weight, BAR, ascii_only) for weight in weights)
        table.add_row(Text(f"teacher {plain(teacher['name'], 40)}"), percent(teacher["accuracy"]), *cells)
    if result["ensemble_accuracy"] is not None:
        table.add_row("plain average of the teachers", percent(result["ensemble_accuracy"]))
    if result["student_alone_accuracy"] is not None:
        table.add_row("student without teachers", percent(result["student_alone_accuracy"]))
    name = "student" if result["method"] == "ce" else f"student distilled by {plain(result['method'], 32)}"
    table.add_row(Text(name, style="bold"), Text(percent(result["student_accuracy"]), style="bold"))
    return table
