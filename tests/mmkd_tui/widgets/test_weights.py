"""Bars, strip and grid of weights: what they look like, to the character."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from mmkd_tui.widgets.class_grid import header, row_of
from mmkd_tui.widgets.glyphs import ASCII, UNICODE, prefers_ascii
from mmkd_tui.widgets.lines import Line
from mmkd_tui.widgets.series import Series
from mmkd_tui.widgets.strip import paint_strip
from mmkd_tui.widgets.weight_bars import Weights, paint_bars, top_of

HOSTILE = "[/red]x[bold]"
LABELS = ("resnet56-long-name-a", "vgg13", "wrn-40-2")
KINDS = (Weights("logit", (0.52, 0.31, 0.17), (0.11, 0.06, 0.04)), Weights("feature", (0.29, 0.4, 0.31), (0.02, 0.12, 0.05)))

NARROW = [
    "logit              ▾1/3               ",
    "resnet…ame-a ██████│▓▓▉─┤        0.520",
    "vgg13        ████▓▉┤             0.310",
    "wrn-40-2     ██▓▎  ┊             0.170",
    "feature            ▾1/3               ",
    "resnet…ame-a █████▌┊             0.290",
    "vgg13        █████▓│▋─┤          0.400",
    "wrn-40-2     ████▓▉┤             0.310",
]
NARROW_ASCII = [
    "logit          v1/3           ",
    "resne~me-a ####|#=|      0.520",
    "vgg13      ###=|         0.310",
    "wrn-40-2   #=| :         0.170",
    "feature        v1/3           ",
    "resne~me-a ####:         0.290",
    "vgg13      ###=|-|       0.400",
    "wrn-40-2   ###=|         0.310",
]
WIDE = [
    "logit                        ▾1/3                            feature   ▾1/3                        ",
    "resnet56-long-name-a ████████│█▓▓▓──┤          0.520 ±.110   ████████▓▎┊                      0.290",
    "vgg13                ██████▓▊┤                 0.310 ±.060   ████████▓▓│▓▊───┤                0.400",
    "wrn-40-2             ███▓▎   ┊                 0.170 ±.040   ███████▓▓▉┤                      0.310",
]
STRIP = [
    "a            ░░▒▒▓▓▓███           ",
    "[/red…bold] ███▓▓✖▒▒░░            ",
]
STRIP_ASCII = [
    "a              .:-=+*#%@           1.000",
    "[/red]x[bold] @%#*+!-:.            0.000",
]


def text(lines: list[Line]) -> list[str]:
    return ["".join(span.text for span in line) for line in lines]


def test_narrow_bars() -> None:
    assert text(paint_bars(LABELS, KINDS, 38, 8, UNICODE)) == NARROW


def test_narrow_bars_in_ascii() -> None:
    assert text(paint_bars(LABELS, KINDS, 30, 8, ASCII)) == NARROW_ASCII


def test_wide_bars_stand_side_by_side() -> None:
    assert text(paint_bars(LABELS, KINDS, 100, 4, UNICODE)) == WIDE


def test_too_many_teachers_are_counted() -> None:
    many = Weights("logit", tuple(1 / 64 for _ in range(64)))
    shown = text(paint_bars(tuple(f"t{i}" for i in range(64)), (many,), 40, 10, UNICODE, top_of((many,))))
    assert len(shown) == 10
    assert shown[-1].strip() == "+56 more"
    assert "████" in shown[1]


def test_a_weight_that_is_no_number_is_an_alarm() -> None:
    shown = text(paint_bars(("a",), (Weights("logit", (math.nan,)),), 40, 3, UNICODE))
    assert "✖" in shown[1]
    assert "NaN" in shown[1]


def test_no_feature_weights_no_feature_bars() -> None:
    shown = text(paint_bars(LABELS, (KINDS[0], Weights("feature")), 100, 9, UNICODE))
    assert len(shown) == 4
    assert "feature" not in shown[0]


def test_the_whole_bar_does_not_jump() -> None:
    def few(weight: float) -> list[Weights]:
        return [Weights("logit", (weight,) * 10)]

    assert top_of(few(0.1)) == 0.2
    assert top_of(few(0.19), 0.5) == 0.5
    assert top_of(few(0.15), 0.5) == 0.2
    assert top_of(few(0.3), 0.5) == 0.5
    assert top_of(few(0.7), 0.5) == 1.0


def test_strip() -> None:
    rows = [Series(), Series()]
    for x in range(10):
        rows[0].append(x, x / 9)
        rows[1].append(x, None if x == 5 else 1 - x / 9)
    assert text(paint_strip(("a", HOSTILE), rows, (0, 19), 34, 2, UNICODE)) == STRIP
    assert text(paint_strip(("a", HOSTILE), rows, (0, 19), 40, 2, ASCII, True)) == STRIP_ASCII


def test_strip_counts_what_it_leaves_out() -> None:
    rows = [Series() for _ in range(5)]
    for row in rows:
        row.append(0, 0.2)
    assert text(paint_strip(tuple("abcde"), rows, (None, None), 30, 3, UNICODE))[-1].strip() == "+3 more"


def test_grid_marks_the_largest() -> None:
    assert text([header(("a", HOSTILE), 12, UNICODE)]) == [" a           [/red…bold]"]
    assert text([row_of((0.25, 0.75), 12, UNICODE)]) == [" ░ 0.250     ▓ 0.750◀   "]
    assert text([row_of((0.25, math.nan), 12, ASCII)]) == [" - 0.250     ! NaN      "]
    assert "◀" not in text([row_of((0.5, 0.5), 12, UNICODE)])[0]


WEIGHTS = st.lists(st.floats(), min_size=1, max_size=70)


@settings(max_examples=150, deadline=None)
@given(WEIGHTS, WEIGHTS, st.text(max_size=9), st.integers(1, 300), st.integers(1, 100), st.booleans())
def test_no_numbers_and_no_size_break_them(
    means: list[float], spreads: list[float], name: str, width: int, height: int, ascii: bool
) -> None:
    glyphs = ASCII if ascii else UNICODE
    labels = (name,) * len(means)
    kinds = (Weights(name, tuple(means), tuple(spreads)), Weights("b", tuple(spreads), ()))
    bars = paint_bars(labels, kinds, width, height, glyphs, top_of(kinds))
    rows = [Series() for _ in labels]
    for row, mean in zip(rows, means, strict=True):
        row.append(0, mean)
        row.append(1, mean)
    strip = paint_strip(labels, rows, (None, None), width, height, glyphs)
    grid = [row_of(means, 12, glyphs), header(labels, 12, glyphs)]
    assert all(sum(cell_len(span.text) for span in line) == 12 * len(means) for line in grid)
    assert all(sum(cell_len(span.text) for span in line) <= width for line in (*bars, *strip))
    for lines in (bars, strip, grid):
        assert len(lines) <= max(height, 2)
        assert not ascii or all(line.isascii() for line in text(lines))
        assert "\x1b" not in "".join(text(lines))


def test_which_terminals_get_ascii() -> None:
    assert prefers_ascii({}, "ascii")
    assert prefers_ascii({"LANG": "de_DE.ISO-8859-1"}, None)
    assert prefers_ascii({"LANG": "C"}, None)
    assert prefers_ascii({"TERM": "linux"}, "utf-8")
    assert not prefers_ascii({"LC_CTYPE": "C.UTF-8", "LANG": "C"}, "UTF-8")  # what Python makes of LANG=C
    assert not prefers_ascii({"LC_ALL": "en_US.utf8", "LANG": "C"}, None)


@pytest.mark.parametrize(
    ("value", "ascii"), [("C", True), ("POSIX", True), ("de_DE.ISO-8859-1", True), ("C.UTF-8", False), ("", False)]
)
def test_a_locale_that_is_not_utf8_is_seen_though_python_writes_utf8(value: str, ascii: bool) -> None:
    code = (
        "import os, sys; from mmkd_tui.widgets.glyphs import prefers_ascii; print(prefers_ascii(os.environ, sys.stdout.encoding))"
    )
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIOENCODING"))}
    said = subprocess.run([sys.executable, "-c", code], env=environment | {"LC_ALL": value, "TERM": "xterm"}, capture_output=True)
    assert said.stdout.decode().strip() == str(ascii), said.stderr
