"""Makes README's pictures from a real run's events: `python docs/make_pictures.py RUN_DIR`."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

from rich.console import Console, RenderableType
from rich.text import Text

from engine.events import Metrics, from_line
from mmkd_tui.progress import picture
from mmkd_tui.result_table import result_table
from mmkd_tui.run_view import RunView

PICTURES = Path(__file__).parent / "pictures"


def live(run_dir: Path) -> RenderableType:
    """`mmkd run` as it looks two thirds into the distillation."""
    view = RunView()
    now = 0.0
    for line in (run_dir / "events.jsonl").read_text(encoding="utf-8").splitlines():
        event = from_line(line)
        if event is None:
            continue
        view.apply(event)
        now = event.t
        if isinstance(event, Metrics) and event.phase == "distil" and event.step >= event.steps * 2 / 3:
            break
    return picture(view, now)


def save(name: str, title: str, *parts: RenderableType, width: int = 92) -> None:
    """An SVG of a terminal; without the web font that Rich would have it load."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, highlight=False)
    for part in parts:
        console.print(part)
    svg = re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=title), flags=re.DOTALL)
    (PICTURES / name).write_text(re.sub(r"[ \t]+\n", "\n", svg), encoding="utf-8")


def main() -> None:
    run_dir = Path(sys.argv[1])
    PICTURES.mkdir(exist_ok=True)
    save("run.svg", "mmkd run quickstart", live(run_dir))
    result = json.loads((run_dir / "result.json").read_text(encoding="utf-8"))
    save("result.svg", "mmkd run quickstart", result_table(result), Text(""), width=84)


if __name__ == "__main__":
    main()
