"""What stands at a finished run's end: the result table and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text
from textual.widgets import Static

from engine.text import plain
from mmkd_tui.progress import clock
from mmkd_tui.result_table import result_table


def picture(result: Mapping[str, Any], path: Path, ascii: bool) -> RenderableType:
    """The table, and where things lie. A `result.json` that lacks something is said to be broken."""
    try:
        parts: list[RenderableType] = [result_table(result, ascii)]
        pace = result["images_per_second"]
        speed = f", {pace:,.0f} images/s while distilling" if pace is not None else ""
        parts.append(Text(f"{clock(result['seconds'])} in all{speed}"))
        if result["selected_on"] == "test":
            parts.append(Text("The best epoch was chosen on the test split: these accuracies are too good to report.", "bold"))
    except (KeyError, TypeError, ValueError, AttributeError):
        return Text(plain(f"{path}/result.json cannot be read as a result"))
    folder = shlex.quote(str(path))
    # The folder stands alone: a long path would break the names of the files in it where the terminal is narrow.
    parts.append(Text.assemble(("Its folder  ", "bold"), plain(folder)))
    parts.append(Text.assemble(("In it       ", "bold"), "the student, student.safetensors; all figures, result.json"))
    parts.append(Text.assemble(("Once more   ", "bold"), plain(f"mmkd run {folder}/preset.yaml")))
    return Group(*parts)


class ResultPanel(Static):
    """Hidden until `show`."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)

    def show(self, result: Mapping[str, Any], path: Path, ascii: bool) -> None:
        """Once, when the run has finished."""
        self.update(picture(result, path, ascii))
