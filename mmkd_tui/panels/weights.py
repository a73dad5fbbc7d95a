"""How far the teachers are trusted: bars of now, strips of the past, and the view by class."""

from __future__ import annotations

import math
from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Container
from textual.geometry import Size

from mmkd_tui.curves import PhaseCurves
from mmkd_tui.run_view import RunView
from mmkd_tui.widgets.class_grid import ClassGrid
from mmkd_tui.widgets.strip import HistoryStrip
from mmkd_tui.widgets.weight_bars import SIDE_BY_SIDE, WeightBars, Weights

KINDS = ("logit", "feature")
CLOSE = 1e-5  # a share by which equal weights may differ in rounding
MOST = 14  # rows of bars, or of a strip, however many teachers there are


class _Bars(WeightBars):
    """As high as its rows."""

    rows = 0

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        kinds = max(sum(bool(kind.means) for kind in self._kinds), 1)
        return (1 + self.rows) * (1 if width >= SIDE_BY_SIDE else kinds)


class _Strip(HistoryStrip):
    """As high as its rows."""

    def with_numbers(self, wanted: bool) -> None:
        """Bars beside it say them already."""
        self._numbered = wanted

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return max(len(self._labels), 1)


class WeightsNow(Container):
    """Bars, and below them how the weights came about."""

    def __init__(self, *, ascii: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self.bars = _Bars(ascii=ascii, id="bars")
        self.logit = _Strip(ascii=ascii, id="logit-strip")
        self.feature = _Strip(ascii=ascii, id="feature-strip")
        self.bars.border_title = "teachers' weights"
        self.logit.border_title = "logit weights by epoch"
        self.feature.border_title = "feature weights by epoch"
        self._shape: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        yield self.bars
        yield self.logit
        yield self.feature

    def show(self, view: RunView, curves: PhaseCurves | None, strips: bool = True) -> None:
        """Draws what there is now, the strips only if asked to."""
        labels = tuple(teacher.label for teacher in view.teachers)
        self.bars.labels, self.bars.rows = labels, len(labels)
        last = view.phase.last if view.phase is not None else None
        if last is not None:
            self.bars.show(
                Weights("logit", last.logit_weights, last.logit_spread),
                Weights("feature", last.feature_weights, last.feature_spread),
            )
        if curves is None or not strips:
            return
        for strip, rows in ((self.logit, curves.logit_weights), (self.feature, curves.feature_weights)):
            strip.x_range = (0.0, float(max(curves.epochs, 1)))
            strip.with_numbers(not self.bars.display)
            strip.show(labels[: len(rows)], rows[: len(labels)])
        self.logit.set_class(curves.name != "distil", "-of-none")
        self.feature.set_class(not curves.feature_weights, "-unused")
        shape = (labels, len(curves.logit_weights), len(curves.feature_weights))
        if shape != self._shape:
            self._shape = shape
            for widget in (self.bars, self.logit, self.feature):
                widget.refresh(layout=True)

    def fit(self, rows: int) -> None:
        """In at most so many rows. Where they are too few for all, the strips go, and what is left counts the teachers that have
        no row.
        """
        left = rows
        shown = [one for one in (self.bars, self.logit, self.feature) if one.display or one.has_class("-no-room")]
        for widget in shown:
            gutter = widget.styles.gutter
            height = widget.get_content_height(self.size, self.app.size, self.size.width - gutter.width) + gutter.height
            widget.styles.max_height = min(max(rows, 1), MOST)
            widget.set_class(widget is not shown[0] and min(height, MOST) > left, "-no-room")
            left = max(left - min(height, MOST), 0)


class WeightsByClass(Container):
    """Which teacher is trusted on which class, by logits and by features, and how that came about."""

    def __init__(self, *, ascii: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        self.grids = ClassGrid(ascii=ascii, id="logit-grid"), ClassGrid(ascii=ascii, id="feature-grid")
        self.strips = _Strip(ascii=ascii, numbered=True, id="logit-past"), _Strip(ascii=ascii, numbered=True, id="feature-past")
        self._shown: object = None
        self.two_kinds = False  # there is something to see by features, too

    def compose(self) -> ComposeResult:
        for kind, grid, strip in zip(KINDS, self.grids, self.strips, strict=True):
            with Container(id=f"{kind}-weights"):
                yield grid
                yield strip

    def show(self, view: RunView, curves: PhaseCurves | None) -> None:
        """The weights of the newest epoch that has them."""
        found = next((phase.by_class for phase in reversed(view.phases) if phase.by_class is not None), None)
        if view.started is None or (found is None and not view.unweighted):
            return
        labels = tuple(teacher.label for teacher in view.teachers)
        method = view.started.method
        if curves is not None:
            for strip, rows in zip(self.strips, (curves.logit_weights, curves.feature_weights), strict=True):
                strip.x_range = (0.0, float(max(curves.epochs, 1)))
                strip.show(labels[: len(rows)], rows[: len(labels)])
                strip.set_class(curves.name != "distil", "-of-none")  # an earlier training, which had none
        if (found or method) == self._shown:
            return
        self._shown = found or method
        weights = (found.logit_weights_by_class, found.feature_weights_by_class) if found is not None else ((), ())
        notes = [equal_weights(method, len(labels), cells) for cells in weights]
        one_line = bool(notes[0]) and (bool(notes[1]) or not weights[1])  # says all
        when = f", epoch {found.epoch + 1}" if found is not None else ""
        for kind, grid, strip, cells, note in zip(KINDS, self.grids, self.strips, weights, notes, strict=True):
            if note:
                grid.say(note)
            else:
                grid.show(view.started.classes, labels, cells)
            grid.border_title = f"{'' if one_line else f'{kind} '}weights by class{when}"
            strip.border_title = f"{kind} weights by epoch"
            strip.set_class(bool(note), "-unused")
            strip.styles.max_height = len(labels) + strip.styles.gutter.height
            grid.refresh(layout=True)
            strip.refresh(layout=True)
        self.two_kinds = bool(weights[1]) and not one_line
        self.query_one("#feature-weights").set_class(not self.two_kinds, "-unused")


def equal_weights(method: str, teachers: int, by_class: Sequence[Sequence[float]]) -> str:
    """The line that tells all about weights [C][K] that are the same everywhere, or about none; "" where they differ."""
    values = [weight for row in by_class if any(row) for weight in row]  # of classes without a sample nothing is known
    if not all(math.isclose(weight, values[0], rel_tol=CLOSE) for weight in values):  # nor where one is NaN
        return ""
    if teachers < 2:
        return f"{'One teacher' if teachers else 'No teachers'}: there is nothing to weigh"
    if not values:
        return "" if by_class else f"{method} gives the teachers no weights"
    return f"{method} weighs all teachers alike ({values[0]:.3f} each)"
