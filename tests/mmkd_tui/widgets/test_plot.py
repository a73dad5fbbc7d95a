"""What a chart looks like, to the character, and that no numbers or sizes can break it."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from mmkd_tui.widgets.glyphs import ASCII, UNICODE
from mmkd_tui.widgets.lines import Line
from mmkd_tui.widgets.plot import Picture, Reference, paint
from mmkd_tui.widgets.series import Series

HOSTILE = "[/red]x[bold]"


def trace(values: list[float | None]) -> Series:
    series = Series()
    series.extend(enumerate(values))
    return series


def text(picture: Picture, width: int, height: int, ascii: bool = False) -> list[str]:
    lines = paint(picture, width, height, ASCII if ascii else UNICODE)
    return ["".join(span.text for span in line) for line in lines]


def picture(*values: float | None, **fields: object) -> Picture:
    return dataclasses.replace(Picture((("loss", trace(list(values))),)), **fields)  # type: ignore[arg-type]


def test_a_straight_line() -> None:
    assert text(picture(*map(float, range(11))), 30, 8) == [
        "● loss 10.0",
        "   10┤                    ⢀⡠⠔●",
        "     │                ⣀⡠⠔⠊⠁   ",
        "     │            ⢀⠤⠒⠉        ",
        "    5┤        ⣀⠤⠔⠊⠁           ",
        "     │   ⢀⡠⠔⠊⠉                ",
        "    0┤●⠤⠊⠁                    ",
        "      0           5         10",
    ]


def test_a_straight_line_in_ascii() -> None:
    assert text(picture(*map(float, range(11))), 30, 8, ascii=True) == [
        "* loss 10.0",
        "   10+                     .'*",
        "     |                ..'''   ",
        "     |             .''        ",
        "    5+         ..''           ",
        "     |    ..'''               ",
        "    0+*'''                    ",
        "      0           5         10",
    ]


def test_a_log_axis_makes_a_line_of_a_decay() -> None:
    assert text(picture(1.0, 0.1, 0.01, 0.001, log_y=True), 30, 10) == [
        "● loss 0.00100           log y",
        "    1┤●⠢⢄                     ",
        "     │   ⠉⠢⢄                  ",
        "  0.1┤      ⠉⠒⢄⡀              ",
        "     │         ⠈⠒⢄            ",
        "     │            ⠉⠢⢄         ",
        " 0.01┤               ⠉⠢⢄      ",
        "     │                  ⠉⠢⢄   ",
        "0.001┤                     ⠉⠢●",
        "      0       1       2      3",
    ]


def test_a_log_axis_without_a_positive_number_says_so() -> None:
    assert "nothing above 0 for a log axis" in "\n".join(text(picture(0.0, -1.0, log_y=True), 40, 6))


def test_a_value_that_is_no_number_breaks_the_line_and_raises_the_alarm() -> None:
    assert text(picture(1.0, 1.0, math.nan, 1.0, 1.0, x_range=(0.0, 4.0)), 26, 6) == [
        "● loss 1.00 ✖1",
        "  1.1┤                    ",
        "     │                    ",
        "  1.0┤●⠉⠉⠉⠉⠁         ⠉⠉⠉⠉●",
        "  0.9┤          ✖         ",
        "      0         2        4",
    ]


def test_a_run_that_ends_in_nan_says_so_in_the_legend() -> None:
    assert text(picture(1.0, None), 40, 6)[0] == "● loss ✖ NaN"


def test_nothing_but_nan() -> None:
    assert "✖ not a number so far ✖" in "\n".join(text(picture(None, math.inf), 40, 6))


def test_lines_to_beat_have_names_and_numbers() -> None:
    beat = (Reference("vgg", 0.8), Reference(HOSTILE, 0.931))
    assert text(picture(0.1, 0.4, 0.55, 0.6, references=beat, percent=True), 44, 10) == [
        "● loss 60.0%",
        " 100%┤╌ [/red]x[bold] 93.1% ╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌",
        "     │╌ vgg 80.0% ╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌",
        "     │                                      ",
        "     │                     ⢀⣀⣀⠤●⠤⠤⠔⠒⠒⠒⠒⠒⠊⠉⠉●",
        "  50%┤            ⣀⣀⠤⠤⠔⠒⠒⠉⠉⠁                ",
        "     │      ⢀⣀⠤⠔⠊⠉                          ",
        "     │ ⣀⡠⠔⠒⠉⠁                               ",
        "   0%┤●                                     ",
        "      0           1            2           3",
    ]


def test_lines_to_beat_on_one_row_share_it() -> None:
    beat = (Reference("a-very-long-name-of-a-teacher", 0.80), Reference("b", 0.81))
    shown = text(picture(0.0, references=beat, percent=True), 38, 6)
    assert any("b 81.0% · a-v…er 80.0%" in line for line in shown), shown


@pytest.mark.parametrize("values", [(0.97,) * 9, (0.2, *(0.97,) * 9), (0.1, 0.5, 0.9, 0.97, 0.97, 0.96, 0.97)])
def test_lines_to_beat_hide_nothing_of_a_curve(values: tuple[float, ...]) -> None:
    beat = (Reference("vgg", 0.96), Reference("alone", 0.98), Reference("low", 0.0))
    plain = text(picture(*values, references=(Reference("", 0.0), Reference("", 0.98)), percent=True), 60, 10)
    named = text(picture(*values, references=beat, percent=True), 60, 10)
    assert any("alone 98.0% · vgg 96.0%" in line for line in named)
    for before, after in zip(plain, named, strict=True):
        curve = [(at, cell) for at, cell in enumerate(before) if cell == "●" or "\u2800" < cell < "\u2900"]
        assert all(after[at] == cell for at, cell in curve), "\n".join(named)


def test_names_of_lines_to_beat_are_left_out_where_they_would_hide_curves() -> None:
    zigzag = [0.0, 1.0] * 19
    shown = text(picture(*zigzag, references=(Reference("vgg", 0.5),), percent=True), 44, 10)
    assert not any("vgg" in line for line in shown), shown


def test_waiting() -> None:
    shown = text(picture(), 40, 5)
    assert shown[0] == "● loss"
    assert "waiting for the first numbers" in "\n".join(shown)


@pytest.mark.parametrize(("width", "height"), [(19, 8), (40, 3), (12, 1)])
def test_too_small_for_a_chart_is_a_summary(width: int, height: int) -> None:
    assert text(picture(1.0, 0.5), width, height)[0].startswith("● loss 0.50")


def test_smoothing_is_said_and_calms() -> None:
    noisy = [float(i % 2) for i in range(2000)]
    calm = "\n".join(text(picture(*noisy, smoothing=0.9), 60, 12))
    assert "smooth 0.9" in calm
    assert calm.count("⣿") < "\n".join(text(picture(*noisy), 60, 12)).count("⣿")


def test_names_are_text() -> None:
    hostile = Picture(((HOSTILE, trace([1.0])), ("\x1b[31mred", trace([2.0])), ("漢字漢字漢字", trace([3.0]))))
    shown = "\n".join(text(hostile, 80, 8))
    assert HOSTILE in shown
    assert "\x1b" not in shown
    assert "\\x1b[31mred" in shown


NUMBERS = st.lists(st.one_of(st.none(), st.floats(), st.floats(-10, 10)), max_size=60)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=12), NUMBERS), max_size=6),
    st.lists(st.tuples(st.text(max_size=12), st.floats()), max_size=3),
    st.tuples(st.one_of(st.none(), st.floats(-1e6, 1e6)), st.one_of(st.none(), st.floats(-1e6, 1e6))),
    st.integers(1, 300),
    st.integers(1, 100),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 0.9]),
)
def test_no_numbers_and_no_size_break_it(
    traces: list[tuple[str, list[float | None]]],
    beat: list[tuple[str, float]],
    x_range: tuple[float | None, float | None],
    width: int,
    height: int,
    ascii: bool,
    log_y: bool,
    percent: bool,
    smoothing: float,
) -> None:
    shown = Picture(
        tuple((name, trace(values)) for name, values in traces),
        tuple(Reference(name, value) for name, value in beat),
        x_range,
        "epoch",
        percent,
        log_y,
        smoothing,
    )
    lines: list[Line] = paint(shown, width, height, ASCII if ascii else UNICODE)
    assert len(lines) <= height
    for line in lines:
        drawn = "".join(span.text for span in line)
        assert sum(cell_len(span.text) for span in line) <= width
        assert "\x1b" not in drawn
        assert not ascii or drawn.isascii()
