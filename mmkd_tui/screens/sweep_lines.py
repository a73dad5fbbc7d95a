"""A sweep as text: its rows, its bar, the line about it; pure functions from what is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from engine.run_state import RunState
from engine.sweeps.manifest import Manifest
from engine.sweeps.overview import GROUPS, Group, Overview, Shown, ranked
from mmkd_tui.figures import percent
from mmkd_tui.screens.home_lines import PHASES, ago, state_cell
from mmkd_tui.widgets.marks import Marks
from mmkd_tui.widgets.table import Column, Row

COLUMNS = (
    Column("state", 16),
    Column("run", 16, grow=True),
    Column("progress", 17, least=70),
    Column("best", 7, right=True),
    Column("test", 7, right=True),
)
ORDERS = ("by state", "best first", "as planned")
FILLS: dict[Group, tuple[str, str]] = {  # of the bar, in Unicode and ASCII
    "done": ("█", "#"),
    "held": ("▓", "="),
    "at work": ("▒", ">"),
    "stopped": ("░", ":"),
    "failed": ("x", "x"),
    "queue": ("·", "."),
}


def rows_of(overview: Overview, order: str, marks: Marks) -> list[Row]:
    """The runs, in one of the orders."""
    rows = list(overview.rows)
    if order == "best first":
        rows = ranked(rows)
    elif order == "by state":
        rows = [row for group in GROUPS if group != "queue" for row in ranked([r for r in rows if r.group == group])]
        rows += [row for row in overview.rows if row.group == "queue"]  # in their turn
    best = overview.best
    return [_row(row, marks, row is best) for row in rows]


def _row(row: Shown, marks: Marks, best: bool) -> Row:
    return Row(
        id=row.folder,
        cells=(_state(row, marks), row.label, _progress(row), _percent(row.best_accuracy), _percent(row.accuracy)),
        mark=marks.chosen if best else " ",
        strong=row.group == "at work" or best,
    )


def _state(row: Shown, marks: Marks) -> str:
    if row.group == "queue":
        return f"{marks.between} in the queue"
    if row.group == "held":
        return f"{marks.states[RunState.PAUSED]} held"
    assert row.state is not None
    return f"{marks.states[row.state]} {row.state.value}"


def _progress(row: Shown) -> str:
    if row.group == "at work" and row.phase not in ("", "distil"):
        phase = PHASES.get(row.phase, row.phase)
        return phase if row.share is None else f"{phase} {min(max(row.share, 0.0), 1.0):.0%}"
    return f"epoch {row.epoch}/{row.epochs}" if row.epoch or (row.group == "at work" and row.phase == "distil") else ""


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"


def bar(counts: Mapping[Group, int], width: int, ascii: bool) -> str:
    """How the runs are shared out over the groups, in `width` cells: what is done first, the queue last."""
    total, begun, text = sum(counts.values()), 0, ""
    for group, fills in FILLS.items():
        begun += counts.get(group, 0)
        text += fills[ascii] * ((round(width * begun / total) if total else 0) - len(text))
    return text


def counted(rows: Iterable[Shown], marks: Marks) -> str:
    """`2 at work · 5 in the queue · 4 done`; of those that failed, who crashed are counted as the rows say."""
    crashed = RunState.CRASHED.value
    words = {group: "in the queue" if group == "queue" else group for group in GROUPS}
    counts = Counter(crashed if row.state is RunState.CRASHED else words[row.group] for row in rows)
    return f" {marks.between} ".join(f"{counts[word]} {word}" for word in (*words.values(), crashed) if counts[word])


def best_line(best: Shown | None) -> str:
    """The best run so far, by its accuracy on the split that chooses; and on the test split, once that is measured."""
    if best is None or best.best_accuracy is None:
        return "No run has been measured yet."
    tested = "" if best.accuracy is None else f", test {percent(best.accuracy)}"
    return f"Best so far: {percent(best.best_accuracy)}{tested}, {best.label}"


def about(manifest: Manifest) -> str:
    """The description, and when runs are held."""
    halving = manifest.halving
    if halving is None:
        return manifest.description
    rungs = sorted({rung for run in manifest.runs for rung in manifest.rungs(run)})
    at = ", ".join(str(rung) for rung in rungs[:6])
    rule = f"1 of {halving.eta} goes on after epoch {at}" if at else "no run is long enough to be held"
    return f"{manifest.description}; {rule}" if manifest.description else rule


def kind_of(path: Path) -> str:
    """What a folder of runs is, as its command is called, too: "sweep" or "table"."""
    return "table" if path.absolute().parent.name == "tables" else "sweep"


def home_row(path: Path, overview: Overview, marks: Marks, now: float, worked_on: bool, narrow: bool = False) -> Row:
    """A sweep, or a table, among the runs of the home screen. `worked_on`: by a command, which may be between two runs."""
    counts, total = overview.counts, len(overview.rows)
    state = RunState.RUNNING if worked_on else _of_all(counts, total)
    best = overview.best
    ended = f"{counts['done'] + counts['held']}{'/' if narrow else ' of '}{total}"
    figure = "" if best is None or best.best_accuracy is None else f", {percent(best.best_accuracy, 1)}"
    return Row(
        id=str(path),
        cells=(
            state_cell(state, marks, narrow),
            f"{kind_of(path)} {overview.manifest.name}",
            f"{total} run{'s' * (total != 1)}",
            ended + figure,
            "" if overview.started is None else ago(now - overview.started, narrow),
        ),
        strong=state.live,
    )


def _of_all(counts: Mapping[Group, int], total: int) -> RunState:
    if counts.get("at work"):
        return RunState.RUNNING
    if counts.get("failed"):
        return RunState.FAILED
    return RunState.FINISHED if counts.get("done", 0) + counts.get("held", 0) == total else RunState.STOPPED
