"""The charts of one training: which curves they show, what there is to beat, and another run's curves beside them."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content

from mmkd_tui.curves import PhaseCurves
from mmkd_tui.run_view import RunView
from mmkd_tui.widgets.chart import LineChart, Reference
from mmkd_tui.widgets.glyphs import glyphs
from mmkd_tui.widgets.lines import cut, shown
from mmkd_tui.widgets.series import Series

LOSSES = ("total", "loss", "CE", "logit", "feature")
ACCURACIES = ("validation", "train", "best", "hard buffer")
NORMS = ("logit", "feature")
CHARTS = ("loss", "accuracy", "norms")
LONGEST = 24  # cells of the name of an earlier training
TITLES = {"loss": "loss", "accuracy": "accuracy", "norms": "hyper-gradient"}


class Charts(Container):
    """Loss, accuracy and hyper-gradient. Where there is room for one only, the class `-<name>` of the parent says which."""

    def __init__(self, *, ascii: bool, log_y: bool, smoothing: bool, id: str | None = None) -> None:
        super().__init__(id=id)
        smooth = LineChart.SMOOTHING if smoothing else 0.0
        self.loss = LineChart((), x_label="epoch", log_y=log_y, smoothing=smooth, ascii=ascii, id="loss")
        self.accuracy = LineChart((), x_label="epoch", percent=True, smoothing=smooth, ascii=ascii, id="accuracy")
        self.norms = LineChart((), x_label="epoch", log_y=True, smoothing=smooth, ascii=ascii, id="norms")
        self.chosen = 0  # which one, where there is room for one only
        self._earlier = ""  # the training whose curves are shown, where it is not the one in hand
        self._shown: tuple[object, ...] = ()

    def choose_next(self) -> str:
        """Its name is the class that the style sheet goes by."""
        self.chosen = (self.chosen + 1) % len(self.used)
        self._title()
        return CHARTS[self.chosen]

    @property
    def used(self) -> tuple[str, ...]:
        return CHARTS[:2] if self.norms.has_class("-unused") else CHARTS

    def _title(self) -> None:
        """The names of the charts, as tabs; beside them, whose curves they are, where nothing else says that."""
        tabs = [(f" {TITLES[name]} ", "reverse" if index == self.chosen else "") for index, name in enumerate(self.used)]
        name = cut(shown(self._earlier, self.loss.ascii), LONGEST, glyphs(self.loss.ascii).more)
        self.border_title = Content.assemble(*tabs, f" of {name} " if name else "")

    def compose(self) -> ComposeResult:
        yield self.loss
        yield self.accuracy
        yield self.norms

    @property
    def all(self) -> tuple[LineChart, LineChart, LineChart]:
        return self.loss, self.accuracy, self.norms

    def show(
        self, curves: PhaseCurves | None, view: RunView, other: PhaseCurves | None, other_name: str, other_method: str
    ) -> None:
        """Draws what there is now."""
        if curves is None:
            return
        losses = _picked(curves.loss, LOSSES)
        accuracies = _picked(curves.accuracy, ACCURACIES)
        norms = _picked(curves.norms, NORMS)
        if other is not None:
            legend = f"other: {other_method}" if other_method else "other"
            losses |= _others(other.loss, ("total", "loss"), legend)
            accuracies |= _others(other.accuracy, ("validation", "best"), legend)
        live = view.phase is None or (view.phase.name, view.phase.index) == (curves.name, curves.index)
        self._earlier = "" if live else curves.label
        what = (curves.name, curves.index, live, other_name if other is not None else "", *losses, "", *accuracies, "", *norms)
        if what != self._shown:
            self._shown = what
            for chart, series in zip(self.all, (losses, accuracies, norms), strict=True):
                chart.show(series)
                chart.x_range = (0.0, float(max(curves.epochs, 1)))
            self.norms.set_class(not norms, "-unused")
            for name, chart in zip(CHARTS, self.all, strict=True):
                chart.border_title = Content(f"{TITLES[name]} of {shown(curves.label, chart.ascii)}")
            beside = Content(f"other: {shown(other_name, self.loss.ascii)}" if other is not None else "")
            self.border_subtitle = self.loss.border_subtitle = self.accuracy.border_subtitle = beside
            self._title()
        self.accuracy.references = references(view) if curves.name != "teacher" else ()
        for chart in self.all:
            chart.changed_data()


def references(view: RunView) -> tuple[Reference, ...]:
    """What there is to beat: the teachers, and the student without them."""
    levels = [Reference(teacher.label, teacher.accuracy) for teacher in view.teachers if teacher.accuracy is not None]
    if view.alone_accuracy is not None:
        levels.append(Reference("alone", view.alone_accuracy))
    return tuple(levels)


def _picked(table: dict[str, Series], order: Sequence[str]) -> dict[str, Series]:
    return {name: table[name] for name in order if name in table}


def _others(table: dict[str, Series], names: Sequence[str], legend: str) -> dict[str, Series]:
    """The first of these series that the other run has."""
    found = next((name for name in names if name in table), None)
    return {legend: table[found]} if found is not None else {}
