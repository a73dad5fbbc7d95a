"""What stands at a finished run's end: the result table and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from textual.widgets import Static

from mmkd_tui.progress import clock
from mmkd_tui.result_table import result_table
from mmkd_tui.widgets.table import shown_text

TOO_GOOD = "The best epoch was chosen on the test split: these accuracies are too good to report."


def picture(result: Mapping[str, Any], path: Path, ascii: bool, rows: int | None = None) -> RenderableType:
    """The table, in at most so many rows, and where things lie. A `result.json` that lacks something is said to be broken."""
    try:
        too_good = [Text(TOO_GOOD, "bold")] if result["selected_on"] == "test" else []
        most = None if rows is None else rows - 2 * len(too_good)  # it takes two lines where the terminal is narrow
        pace = result["images_per_second"]
        speed = f", {pace:,.0f} images/s while distilling" if pace is not None else ""
        parts: list[RenderableType] = [result_table(result, ascii, most), *too_good]
        parts.append(Text(f"{clock(result['seconds'])} in all{speed}"))
    except (KeyError, TypeError, ValueError, AttributeError):
        return Text(shown_text(f"{path}/result.json cannot be read as a result", ascii))
    folder = shlex.quote(str(path))
    # The folder stands alone: a long path would break the names of the files in it where the terminal is narrow.
    parts.append(Text.assemble(("Its folder  ", "bold"), shown_text(folder, ascii)))
    if result.get("only_teachers"):
        parts.append(Text.assemble(("In it       ", "bold"), "all figures, result.json; mmkd teachers list shows the teachers"))
    else:
        parts.append(Text.assemble(("In it       ", "bold"), "the student, student.safetensors; all figures, result.json"))
    parts.append(Text.assemble(("Once more   ", "bold"), shown_text(f"mmkd run {folder}/preset.yaml", ascii)))
    return Group(*parts)


class ResultPanel(Static):
    """Hidden until `show`."""

    def __init__(self, *, ascii: bool = False, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._ascii = ascii
        self._shown: tuple[Mapping[str, Any], Path] | None = None

    def show(self, result: Mapping[str, Any], path: Path) -> None:
        """Once, when the run has finished."""
        self._shown = result, path
        self.fit()

    def fit(self) -> None:
        """In the rows that the style sheet gives it in this terminal, margins left out."""
        if self._shown is not None:
            self.update(picture(*self._shown, self._ascii, self.app.size.height * 6 // 10 - 2))
