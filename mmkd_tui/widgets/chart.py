"""`LineChart`: the curves of a run, live, in a widget of any size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from textual.reactive import reactive

from mmkd_tui.widgets.lines import Line, LinesWidget
from mmkd_tui.widgets.plot import Picture, Reference, paint
from mmkd_tui.widgets.series import LIMIT, Series

__all__ = ["LineChart", "Reference"]


class LineChart(LinesWidget):
    """Named series over one x axis. A value that is no number is a gap in its line and an alarm in chart and legend."""

    SMOOTHING: ClassVar[float] = 0.9  # what `toggle_smoothing` turns on

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "line-chart--axis",
        "line-chart--label",
        "line-chart--value",
        "line-chart--note",
        "line-chart--reference",
        "line-chart--alarm",
        *(f"line-chart--series-{index}" for index in range(6)),
    }

    DEFAULT_CSS = """
    LineChart {
        & > .line-chart--axis { color: $text-muted; }
        & > .line-chart--label { color: $text-muted; }
        & > .line-chart--value { text-style: bold; }
        & > .line-chart--note { color: $text-muted; text-style: italic; }
        & > .line-chart--reference { color: $text-muted; }
        & > .line-chart--alarm { color: $text-error; text-style: bold reverse; }
        & > .line-chart--series-0 { color: $text-primary; text-style: bold; }
        & > .line-chart--series-1 { color: $text-warning; }
        & > .line-chart--series-2 { color: $text-success; }
        & > .line-chart--series-3 { color: $text-error; }
        & > .line-chart--series-4 { color: $foreground; }
        & > .line-chart--series-5 { color: $text-secondary; }
    }
    """

    log_y: reactive[bool] = reactive(False, init=False)
    smoothing: reactive[float] = reactive(0.0, init=False)
    x_range: reactive[tuple[float | None, float | None]] = reactive((None, None), init=False)
    references: reactive[tuple[Reference, ...]] = reactive((), init=False)

    def __init__(
        self,
        names: Sequence[str],
        *,
        x_label: str = "",
        x_range: tuple[float | None, float | None] = (None, None),
        references: tuple[Reference, ...] = (),
        percent: bool = False,
        log_y: bool = False,
        smoothing: float = 0.0,
        waiting: str = "waiting for the first numbers",
        limit: int = LIMIT,
        ascii: bool = False,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        """`names`: the series, the most important first (it is drawn on top). `percent`: values are in 0..1, shown as 0..100%."""
        super().__init__(ascii=ascii, id=id, classes=classes)
        self._x_label = x_label
        self._percent = percent
        self._waiting = waiting
        self._limit = limit
        self._series = {name: Series(limit) for name in names}
        self.set_reactive(LineChart.x_range, x_range)
        self.set_reactive(LineChart.references, references)
        self.set_reactive(LineChart.log_y, log_y)
        self.set_reactive(LineChart.smoothing, smoothing)

    @property
    def series(self) -> Mapping[str, Series]:
        """The histories, to be read."""
        return MappingProxyType(self._series)

    def show(self, series: Mapping[str, Series]) -> None:
        """Draw these histories from now on. They stay the caller's, who calls `changed_data` after adding to them."""
        self._series = dict(series)
        self.changed_data()

    def append(self, x: float, values: Mapping[str, float | None]) -> None:
        """One value a series at a place. None and NaN are gaps; a series that is left out has no value there."""
        for name, value in values.items():
            self._series[name].append(x, value)
        self.changed_data()

    def extend(self, name: str, points: Iterable[tuple[float, float | None]]) -> None:
        """Many (x, y) of one series, oldest first."""
        self._series[name].extend(points)
        self.changed_data()

    def reset(self, names: Sequence[str] | None = None) -> None:
        """Forget all points; with `names`, go on with other series."""
        self._series = {name: Series(self._limit) for name in (self._series if names is None else names)}
        self.changed_data()

    def toggle_log_y(self) -> None:
        self.log_y = not self.log_y

    def toggle_smoothing(self) -> None:
        self.smoothing = 0.0 if self.smoothing else self.SMOOTHING

    def watch_log_y(self) -> None:
        self.changed_data()

    def watch_smoothing(self) -> None:
        self.changed_data()

    def watch_x_range(self) -> None:
        self.changed_data()

    def watch_references(self) -> None:
        self.changed_data()

    def draw(self, width: int, height: int) -> list[Line]:
        picture = Picture(
            traces=tuple(self._series.items()),
            references=self.references,
            x_range=self.x_range,
            x_label=self._x_label,
            percent=self._percent,
            log_y=self.log_y,
            smoothing=self.smoothing,
            waiting=self._waiting,
        )
        return paint(picture, width, height, self.glyphs)
