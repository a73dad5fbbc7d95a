"""The table at a run's end: each teacher, their plain average, the student alone, the student distilled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from mmkd_tui.figures import number_of, percent
from mmkd_tui.progress import weight_cell
from mmkd_tui.widgets.glyphs import glyphs
from mmkd_tui.widgets.lines import cut, shown

BAR = 8  # columns of a weight bar
GAP = 2  # columns between two columns of the table
ACCURACY, WEIGHTS = "test accuracy", ("logit weight", "feature weight")
LEAST_NAME = 25  # columns for "student distilled by mmkd": a weight goes rather than that names have less


class _Row(NamedTuple):
    name: str
    accuracy: str
    weights: tuple[Text, ...] = ()
    style: str = ""


@dataclass(frozen=True, slots=True)
class ResultTable:
    """No accuracy is cut, in any width: where there is no room for all, weights go, and then names lose their middle."""

    rows: tuple[_Row, ...]
    more: str  # where something was cut

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        longest = max(cell_len(row.name) for row in self.rows)
        room = options.max_width - GAP - len(ACCURACY)  # for the names
        weights: list[int] = []  # kinds that some teacher has, as far as there is room
        for number, title in enumerate(WEIGHTS):
            if not any(str(cell) for row in self.rows for cell in row.weights[number : number + 1]):
                continue
            size = GAP + max(len(title), BAR + len(" 0.000"))
            if room - size < min(longest, LEAST_NAME):
                break
            room -= size
            weights.append(number)
        table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="bold")
        for title in ("network", ACCURACY, *(WEIGHTS[number] for number in weights)):
            table.add_column(title, no_wrap=True, justify="right" if title == ACCURACY else "left")
        for row in self.rows:
            name = Text(cut(row.name, max(room, 1), self.more))
            cells = [row.weights[number] if number < len(row.weights) else "" for number in weights]
            table.add_row(name, row.accuracy, *cells, style=row.style)
        yield table


def result_table(result: Mapping[str, Any], ascii_only: bool = False, most: int | None = None) -> ResultTable:
    """From what stands in `result.json`. `most`: lines that it may have; of more teachers than that, the last are counted."""

    def row(name: str, accuracy: float | None, *weights: float | None, style: str = "") -> _Row:
        cells = tuple(weight_cell(weight, BAR, ascii_only) for weight in weights)
        return _Row(shown(name, ascii_only), percent(accuracy), cells, style)

    teachers = [row(f"teacher {t['name']}", t["accuracy"], t["logit_weight"], t["feature_weight"]) for t in result["teachers"]]
    others = []
    if result["ensemble_accuracy"] is not None:
        others.append(row("plain average of the teachers", result["ensemble_accuracy"]))
    if result["student_alone_accuracy"] is not None:
        others.append(row("student without teachers", result["student_alone_accuracy"]))
    if not result.get("only_teachers"):
        name = "student" if result["method"] == "ce" else f"student distilled by {result['method']}"
        others.append(row(name, result["student_accuracy"], style="bold"))
    if most is not None and 1 + len(teachers) + len(others) > most:
        kept = max(most - 2 - len(others), 0)
        teachers = [*teachers[:kept], row(f"+{number_of(len(teachers) - kept, 'more teacher')}", None)] if teachers else []
    return ResultTable((*teachers, *others), glyphs(ascii_only).more)
