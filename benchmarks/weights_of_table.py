"""Whom the methods of a table trusted: mean weights of the last epoch over the seeds, and how hard the hard buffer was.

`python benchmarks/weights_of_table.py runs/tables/NAME`, after `mmkd table NAME`.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from engine.events import EpochEnded, from_line


def main(folder: Path) -> None:
    """A Markdown table on stdout."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.glob("*/result.json")):
        result = json.loads(path.read_text())
        if result["state"] == "done":
            found[path.parent.name.rpartition("-s")[0]].append(result | {"epochs": epochs(path.parent / "events.jsonl")})
    teachers = [one["name"] for one in next(iter(found.values()))[0]["teachers"]]
    titles = (
        "method",
        "n",
        f"logit weights of {', '.join(teachers)}",
        "feature weights",
        "train",
        "hard buffer",
        "hyper-gradient",
    )
    print(f"| {' | '.join(titles)} |")
    print("| --- | ---: | --- | --- | ---: | ---: | --- |")
    for name, results in found.items():
        cells = [name, str(len(results)), weights(results, "logit_weight"), weights(results, "feature_weight")]
        last = [result["epochs"][-1] for result in results if result["epochs"]]
        cells.append(mean([epoch.accuracy for epoch in last], ".1%"))
        cells.append(mean([epoch.hard_accuracy for epoch in last], ".1%"))
        norms = [mean([getattr(epoch, key) for epoch in last], ".2g") for key in ("logit_gradient", "feature_gradient")]
        cells.append(" / ".join(norms) if any(norms) else "")
        print(f"| {' | '.join(cells)} |")


def weights(results: list[dict[str, Any]], key: str) -> str:
    """Means and standard deviations over the seeds, a pair for each teacher."""
    rows = [[teacher[key] for teacher in result["teachers"]] for result in results]
    if any(value is None for row in rows for value in row):
        return ""
    columns = list(zip(*rows, strict=True))
    return ", ".join(f"{statistics.mean(one):.2f} ± {statistics.stdev(one) if len(one) > 1 else 0:.2f}" for one in columns)


def mean(values: list[float | None], form: str) -> str:
    """Empty where there is nothing to average."""
    known = [value for value in values if value is not None]
    return format(statistics.mean(known), form) if known else ""


def epochs(path: Path) -> list[EpochEnded]:
    """Of the distillation, in their order."""
    events = (from_line(line) for line in path.read_text(errors="replace").splitlines())
    return [event for event in events if isinstance(event, EpochEnded) and event.phase == "distil"]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
