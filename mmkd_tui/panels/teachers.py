"""The teachers of a run in a table: waiting, in training or ready, and how good they are."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from textual.geometry import Size

from engine.run_state import RunState
from mmkd_tui.figures import percent
from mmkd_tui.run_view import RunView
from mmkd_tui.widgets.glyphs import Glyphs
from mmkd_tui.widgets.lines import Line, LinesWidget, Span, cut, fit, shown

LABEL, READY, TRAINING, WAITING, VALUE = (f"teachers--{name}" for name in ("label", "ready", "training", "waiting", "value"))
MOST_NAME = 28
WORD = 10  # cells for how a teacher stands
ORIGINS = {"store": "from store", "checkpoint": "from file"}


def paint_teachers(view: RunView, state: RunState, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """A row a network: the teachers, then the student alone."""
    phase = view.phase
    at = (phase.name, phase.index) if phase is not None and not phase.done else None
    share = phase.share if phase is not None else 0.0
    entries = [
        (shown(teacher.label, glyphs.ascii), teacher.accuracy, teacher.source, at == ("teacher", index))
        for index, teacher in enumerate(view.teachers)
    ]
    if view.alone_accuracy is not None or at == ("alone", 0):
        entries.append(("student alone", view.alone_accuracy, view.alone_source, at == ("alone", 0)))
    if not entries:
        return [(Span("no teachers yet" if view.started is None else "this run has no teachers", WAITING),)]
    names = min(max(cell_len(name) for name, *_ in entries), MOST_NAME, max(width - 22, 8)) + 2
    lines = [_line(entry, share, state.live, names, glyphs) for entry in entries]
    if len(lines) > height:
        lines = [*lines[: max(height - 1, 0)], (Span(f"+{len(lines) - max(height - 1, 0)} more", WAITING),)]
    return lines


def _line(entry: tuple[str, float | None, str, bool], share: float, live: bool, names: int, glyphs: Glyphs) -> Line:
    name, accuracy, source, training = entry
    label = Span(fit(cut(name, names - 2, glyphs.more), names), LABEL)
    if accuracy is not None:
        mark = "*" if glyphs.ascii else "✔"
        word = cut(ORIGINS.get(source) or shown(source, glyphs.ascii) or "ready", WORD, glyphs.more)
        return (Span(f"{mark} ", READY), label, Span(fit(word, WORD), READY), Span(f"{percent(accuracy):>8}", VALUE))
    if training:
        mark, word = (">" if glyphs.ascii else "▶", "training") if live else ("#" if glyphs.ascii else "■", "broken off")
        return (Span(f"{mark} ", TRAINING), label, Span(fit(word, WORD), TRAINING), Span(f"{share:8.0%}", VALUE))
    return (Span("- " if glyphs.ascii else "○ ", WAITING), label, Span("waiting" if live else "not begun", WAITING))


class TeacherTable(LinesWidget):
    """`show` after each change."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {LABEL, READY, TRAINING, WAITING, VALUE}

    DEFAULT_CSS = """
    TeacherTable {
        & > .teachers--ready { color: $text-success; }
        & > .teachers--training { color: $text-warning; text-style: bold; }
        & > .teachers--waiting { color: $text-muted; }
        & > .teachers--value { text-style: bold; }
    }
    """

    def __init__(self, *, ascii: bool = False, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(ascii=ascii, id=id, classes=classes)
        self._view: RunView | None = None
        self._state = RunState.STARTING
        self._rows = 0

    def show(self, view: RunView, state: RunState) -> None:
        """What the view says now."""
        self._view, self._state = view, state
        rows = len(view.teachers) + (view.alone_accuracy is not None or (view.phase is not None and view.phase.name == "alone"))
        if rows != self._rows:
            self._rows = rows
            self.refresh(layout=True)
        self.changed_data()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return max(self._rows, 1)

    def draw(self, width: int, height: int) -> list[Line]:
        return paint_teachers(self._view, self._state, width, height, self.glyphs) if self._view is not None else []
