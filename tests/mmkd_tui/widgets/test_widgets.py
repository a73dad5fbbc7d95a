"""The widgets in an app: every line fills the widget, a change repaints only what changed, and names are never markup."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any

from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.widget import Widget

from mmkd_tui.widgets.chart import LineChart, Reference
from mmkd_tui.widgets.class_grid import ClassGrid
from mmkd_tui.widgets.lines import Span, changed, clip, cut, fit, joined, shown
from mmkd_tui.widgets.strip import HistoryStrip
from mmkd_tui.widgets.weight_bars import WeightBars, Weights

HOSTILE = "[/red]x[bold]\x1b[31m"
SHOWN = "[/red]x[bold]\\x1b[31m"
THEMES = ("textual-dark", "textual-light", "ansi-dark", "ansi-light")


class One(App[None]):
    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget

    def compose(self) -> ComposeResult:
        yield self.widget


def chart(ascii: bool = False) -> LineChart:
    widget = LineChart((HOSTILE, "b"), x_label=HOSTILE, references=(Reference(HOSTILE, 0.9),), ascii=ascii)
    for x in range(200):
        widget.append(x, {HOSTILE: math.exp(-x / 50), "b": None if x == 77 else 1 - math.exp(-x / 50)})
    return widget


def bars(ascii: bool = False) -> WeightBars:
    widget = WeightBars((HOSTILE, "b", "漢字"), ascii=ascii)
    widget.show(Weights("logit", (0.5, 0.3, 0.2), (0.1, 0.1, 0.0)), Weights("feature", (0.2, 0.5, 0.3)))
    return widget


def strip(ascii: bool = False) -> HistoryStrip:
    widget = HistoryStrip((HOSTILE, "b"), ascii=ascii)
    for x in range(50):
        widget.append(x, (x / 50, 1 - x / 50))
    return widget


def grid(ascii: bool = False) -> ClassGrid:
    widget = ClassGrid(ascii=ascii)
    weights = tuple(((i % 10) / 10, 1 - (i % 10) / 10) for i in range(1000))
    widget.show(tuple(f"{HOSTILE} {i}" for i in range(1000)), (HOSTILE, "b"), weights)
    return widget


MAKERS: tuple[Callable[[bool], Widget], ...] = (chart, bars, strip, grid)


def lines_of(widget: Widget) -> list[str]:
    strips = [widget.render_line(y) for y in range(widget.size.height)]
    assert all(strip.cell_length == widget.size.width for strip in strips)
    return [strip.text for strip in strips]


def with_app(widget: Widget, body: Callable[[One, Any], Coroutine[Any, Any, None]], size: tuple[int, int] = (80, 24)) -> None:
    async def run() -> None:
        app = One(widget)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await body(app, pilot)

    asyncio.run(run())


def test_every_line_fills_the_widget_at_any_size_and_theme() -> None:
    async def body(app: One, pilot: Any) -> None:
        for i, (width, height) in enumerate(((1, 1), (7, 2), (20, 4), (31, 9), (66, 12), (80, 24), (160, 48), (300, 100))):
            await pilot.resize_terminal(width, height)
            app.theme = THEMES[i % len(THEMES)]
            await pilot.pause()
            lines = lines_of(app.widget)
            assert (len(lines[0]), len(lines)) >= (1, 1)
            assert "\x1b" not in "".join(lines)

    for make in MAKERS:
        with_app(make(False), body)


def test_names_are_shown_as_they_are() -> None:
    async def body(app: One, pilot: Any) -> None:
        assert SHOWN in "\n".join(lines_of(app.widget))

    for make in MAKERS:
        with_app(make(False), body, (160, 48))


def test_ascii_is_ascii() -> None:
    async def body(app: One, pilot: Any) -> None:
        assert "\n".join(lines_of(app.widget)).isascii()

    for make in MAKERS:
        with_app(make(True), body)


def test_a_change_repaints_only_what_changed() -> None:
    widget = LineChart(("a",), x_range=(0.0, 1000.0))
    widget.extend("a", ((x, 1.0 + x % 2) for x in range(500)))

    async def body(app: One, pilot: Any) -> None:
        regions: list[Region] = []
        repaint = widget.refresh

        def counting(*wanted: Region, **options: bool) -> Widget:
            regions.extend(wanted or [Region(0, 0, 80, 24)])
            return repaint(*wanted, **options)

        lines_of(widget)
        widget.refresh = counting  # type: ignore[method-assign, assignment]
        widget.append(520, {"a": 1.7})
        await pilot.pause()
        assert regions
        assert sum(region.area for region in regions) < 80
        assert widget.render_line(0).text.startswith("● a 1.70")

    with_app(widget, body)


def test_many_changes_are_drawn_once() -> None:
    widget = chart()
    draws = 0
    draw = widget.draw

    def counting(width: int, height: int) -> Any:
        nonlocal draws
        draws += 1
        return draw(width, height)

    widget.draw = counting  # type: ignore[method-assign]

    async def body(app: One, pilot: Any) -> None:
        lines_of(widget)
        before = draws
        for x in range(200, 300):
            widget.append(x, {"b": 0.5})
        await pilot.pause()
        assert draws == before + 1

    with_app(widget, body)


def test_a_hidden_widget_is_not_drawn() -> None:
    widget = chart()

    async def body(app: One, pilot: Any) -> None:
        widget.display = False
        await pilot.pause()
        widget.draw = lambda width, height: 1 / 0  # type: ignore[assignment, method-assign, return-value]
        widget.append(300, {"b": 0.5})
        await pilot.pause()
        del widget.draw
        widget.display = True
        await pilot.pause()
        assert "b 0.500" in widget.render_line(0).text

    with_app(widget, body)


def test_toggles() -> None:
    widget = chart()

    async def body(app: One, pilot: Any) -> None:
        widget.toggle_log_y()
        widget.toggle_smoothing()
        await pilot.pause()
        assert "log y · smooth 0.9" in "\n".join(lines_of(widget))
        widget.toggle_log_y()
        widget.toggle_smoothing()
        widget.ascii = True
        await pilot.pause()
        text = "\n".join(lines_of(widget))
        assert "log y" not in text
        assert text.isascii()
        widget.reset(("c",))
        await pilot.pause()
        assert lines_of(widget)[0].startswith("* c")

    with_app(widget, body)


def test_the_grid_scrolls_under_its_header() -> None:
    widget = grid()

    async def body(app: One, pilot: Any) -> None:
        widget.focus()
        await pilot.press("end")
        await pilot.pause(0.3)
        lines = lines_of(widget)
        assert lines[0].startswith("class")
        assert "999" in lines[-1]
        assert "0.900◀" in lines[-1]

    with_app(widget, body)


def test_pieces_of_lines() -> None:
    assert cut("resnet56-a", 7, "…") == "res…6-a"
    assert cut("abc", 3, "…") == "abc"
    assert cut("漢字漢字", 5, "…") == "漢…字"
    assert cut("abc", 1, "…") == "…"
    assert cut("abc", 0, "…") == ""
    assert fit("漢字", 3) == "漢 "
    assert shown("é\n[b]", ascii=True) == "\\xe9 [b]"
    assert joined([Span("a", "x"), Span("b", "x"), Span("c")]) == (Span("ab", "x"), Span("c"))
    assert clip((Span("ab"), Span("cd")), 3) == (Span("ab"), Span("c"))
    assert changed((Span("abc"),), (Span("abc"),)) is None
    assert changed((Span("abcd"),), (Span("abXd"),)) == (2, 3)
    assert changed((Span("ab", "r"), Span("c")), (Span("abc"),)) == (0, 2)
    assert changed((Span("漢a"),), (Span("漢b"),)) == (0, 3)
