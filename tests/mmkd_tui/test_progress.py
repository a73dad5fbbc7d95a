"""The headless display: what stands in the picture and in the lines, in any terminal and whatever the names are."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from engine.events import (
    CacheProgress,
    EpochEnded,
    Event,
    Log,
    Metrics,
    PhaseStarted,
    RunEnded,
    RunStarted,
    StudentAloneReady,
    TeacherReady,
)
from mmkd_tui.figures import percent
from mmkd_tui.panels import status
from mmkd_tui.progress import LiveProgress, PlainProgress, RunConsole, bar, clock, make_progress, picture
from mmkd_tui.result_table import result_table
from mmkd_tui.run_view import RunView
from mmkd_tui.widgets.glyphs import UNICODE

HOSTILE = "[/red]x[bold]\x1b[31m"
START = RunStarted(
    t=0.0,
    name="quickstart",
    run_dir="runs/one",
    dataset="digits",
    classes=("0", "1"),
    teachers=("resnet20-s0", "vgg8-s1"),
    student="resnet8",
    method="mmkd",
    device="cpu (1 thread)",
    seed=0,
)
AVERAGES = {"phase": "distil", "index": 0, "epoch": 2, "step": 25, "lr": 0.05, "loss": 4.5, "ce": 0.1, "accuracy": 0.9}
WEIGHTS = {"logit": 1.0, "feature": 0.4, "logit_weights": (0.25, 0.75), "feature_weights": (0.5, 0.5)}
EVENTS: tuple[Event, ...] = (
    START,
    TeacherReady(t=1.0, index=0, label="resnet20-s0", accuracy=0.98, source="store"),
    TeacherReady(t=2.0, index=1, label="vgg8-s1", accuracy=0.97, source="trained"),
    StudentAloneReady(t=3.0, accuracy=0.96, source="trained"),
    PhaseStarted(t=10.0, phase="distil", index=0, label="resnet8 by mmkd", epochs=5, steps_per_epoch=10, parameters=1),
    EpochEnded(t=15.0, measured_accuracy=0.965, best_accuracy=0.97, **AVERAGES | WEIGHTS),
    Metrics(t=20.0, steps=50, images_per_second=1234.5, **AVERAGES | WEIGHTS),
)


def view_of(events: tuple[Event, ...]) -> RunView:
    view = RunView()
    for event in events:
        view.apply(event)
    return view


def drawn(view: RunView, ascii_only: bool = False, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(picture(view, now=20.0, ascii_only=ascii_only))
    return console.file.getvalue()


def test_picture_tells_progress_losses_and_every_teachers_weights_within_80_columns() -> None:
    text = drawn(view_of(EVENTS))
    for fragment in ("quickstart", "50%", "epoch 3/5", " left", "1,234 images/s", "loss 4.5 (CE 0.1, logit 1, feature 0.4)"):
        assert fragment in text
    assert "validation 96.50 %  best 97.00 %" in text
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith(("resnet20-s0", "vgg8-s1"))}
    assert "98.00 %" in rows["resnet20-s0"]
    assert rows["vgg8-s1"].count("█") == 12 + 8  # three quarters and one half of 16 columns
    assert "without teachers: 96.00 %" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_picture_before_anything_has_come() -> None:
    assert "loading" in drawn(RunView())
    assert "waiting" in drawn(view_of(EVENTS[:1]))


def test_ascii_terminals_get_ascii() -> None:
    table = Console(file=io.StringIO(), width=80, color_system=None)
    teacher = {"name": "vgg8-s1", "accuracy": 0.97, "logit_weight": 0.75, "feature_weight": 0.5}
    accuracies = {"ensemble_accuracy": 0.98, "student_alone_accuracy": 0.96, "student_accuracy": 0.975, "method": "mmkd"}
    table.print(result_table({"teachers": [teacher], **accuracies}, ascii_only=True))
    assert table.file.getvalue().isascii()
    text = drawn(view_of(EVENTS), ascii_only=True)
    assert "####" in text
    assert "█" not in text


@pytest.mark.parametrize("names", [("vgg8-s0", "vgg8-s1"), tuple(f"timm:convnext_tiny.fb_in22k_ft_in1k-s{k}" for k in (0, 1))])
@pytest.mark.parametrize("width", [30, 60, 66, 78, 80, 120])
def test_no_accuracy_of_the_result_is_cut_and_names_keep_what_tells_them_apart(width: int, names: tuple[str, str]) -> None:
    teachers = [{"name": name, "accuracy": 0.97, "logit_weight": 0.75, "feature_weight": 0.5} for name in names]
    accuracies = {"ensemble_accuracy": 0.98, "student_alone_accuracy": 0.96, "student_accuracy": 0.975, "method": "mmkd"}
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(result_table({"teachers": teachers, **accuracies}))
    title, *rows = console.file.getvalue().splitlines()
    assert "test accuracy" in title
    figures = ("97.00 %", "97.00 %", "98.00 %", "96.00 %", "97.50 %")
    assert all(figure in row for row, figure in zip(rows, figures, strict=True)), rows
    assert [row.split(" 97")[0].strip()[-1] for row in rows[:2]] == ["0", "1"]
    assert all(len(row) <= width for row in rows)
    assert ("feature weight" in title) == (width >= 72)


def test_hostile_names_are_shown_as_text() -> None:
    events = (replace(START, name=HOSTILE, teachers=(HOSTILE, "b")), replace(EVENTS[4], label=HOSTILE), EVENTS[5])
    text = drawn(view_of(events), width=160)
    assert "[/red]x[bold]" in text
    assert "\x1b" not in text
    out = io.StringIO()
    progress = PlainProgress(Console(file=out, markup=False, highlight=False))
    progress([*events, Log(t=30.0, level="warning", message=HOSTILE)])
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().count("[/red]x[bold]") >= 3


def test_plain_lines_come_when_something_begins_or_ends_and_not_with_every_number() -> None:
    out = io.StringIO()
    progress = PlainProgress(Console(file=out, markup=False, highlight=False))
    progress(EVENTS)
    for _ in range(100):
        progress([EVENTS[-1]])
    lines = out.getvalue().splitlines()
    assert len(lines) == 5
    assert "98.00 %" in lines[1]
    assert "distilling" in lines[4]


def test_one_is_not_counted_as_many() -> None:
    out = io.StringIO()
    PlainProgress(Console(file=out, width=200))([replace(START, teachers=("a",)), replace(EVENTS[4], epochs=1)])
    assert "1 teacher -> resnet8" in out.getvalue()
    assert "1 epoch\n" in out.getvalue()


def test_a_terminal_that_goes_away_is_let_go() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    for kind in (LiveProgress, PlainProgress):
        progress = kind(RunConsole(file=Gone(), force_terminal=True))
        with progress:
            progress(EVENTS)
            progress([RunEnded(t=30.0, state="done")])
        assert progress.view.ended is not None


def test_a_warning_stays_above_the_live_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    out = io.StringIO()
    progress = make_progress(RunConsole(file=out, force_terminal=True, width=80), quiet=False)
    assert isinstance(progress, LiveProgress)
    with progress:
        progress(EVENTS)
        progress([Log(t=30.0, level="info", message="compiled"), Log(t=31.0, level="warning", message=f"weak {HOSTILE}")])
    assert out.getvalue().count("warning: weak [/red]x[bold]") == 1
    assert "compiled" not in out.getvalue()


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = io.StringIO()
    with make_progress(RunConsole(file=out, force_terminal=True), quiet=False) as progress:
        progress(EVENTS)
    assert "teacher 1, resnet20-s0: 98.00 % on the test split (store)" in out.getvalue()
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(("locale", "ascii_only"), [("POSIX", True), ("C.UTF-8", False)])
def test_the_picture_is_drawn_in_ascii_where_the_locale_is_not_utf8(
    monkeypatch: pytest.MonkeyPatch, locale: str, ascii_only: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("LC_ALL", locale)
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")  # as Python opens stderr whatever the locale
    with LiveProgress(RunConsole(file=out, force_terminal=True, width=80)) as progress:
        progress(EVENTS)
    out.flush()
    drawn = out.buffer.getvalue()  # type: ignore[attr-defined]
    assert b"50%" in drawn
    assert drawn.isascii() == ascii_only


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (63.4, "1:03"), (3723, "1:02:03"), (None, "?"), (-5, "0:00")])
def test_clock(seconds: float | None, text: str) -> None:
    assert clock(seconds) == text


def test_percent_and_bar() -> None:
    assert percent(0.98714) == "98.71 %"
    assert percent(None) == ""
    assert [bar(share, 4) for share in (0, 0.5, 1, 1.7)] == ["    ", "██  ", "████", "████"]
    assert bar(0.25 + 1 / 32, 4) == "█▏  "
    assert bar(0.5, 4, ascii_only=True) == "##  "


def test_the_teacher_cache_is_shown_while_it_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(t: float, done: int, label: str = "resnet20-s0") -> CacheProgress:
        return CacheProgress(t=t, label=label, view=done // 50 % 2, views=2, done=done, total=200, images_per_second=25.0)

    events = (*EVENTS[:4], at(10.0, 0), at(14.0, 100, "vgg8-s1"))
    text = drawn(view_of(events))
    for fragment in ("teacher cache ", "asking vgg8-s1", "50%", "view 1/2", "25 images/s", " left"):
        assert fragment in text
    assert "starting" not in text
    view = view_of((*events, at(18.0, 200)))
    assert view.phase is not None
    assert view.phase.done
    assert view.phase.seconds_left(18.0) == 0

    monkeypatch.setattr("mmkd_tui.progress.LINE_EVERY", 0.0)
    out = io.StringIO()
    progress = PlainProgress(Console(file=out, width=200, markup=False, highlight=False))
    progress(EVENTS[:4])
    for event in events[4:]:
        progress([event])
    assert out.getvalue().splitlines()[-1].startswith("teacher cache: 50%  view 1/2")
    progress(EVENTS[4:])  # and the distillation after it as ever
    assert "epoch 3/5" in out.getvalue().splitlines()[-1]


def test_the_dashboards_lines_show_the_teacher_cache() -> None:
    view = view_of((*EVENTS[:4], CacheProgress(t=9.0, label="a", view=1, views=4, done=50, total=200, images_per_second=25.0)))
    line = "".join(span.text for span in status.progress(view, True, 10.0, 120, UNICODE))
    assert "teacher cache" in line
    assert "view 2/4" in line
    assert "asking a  25 images/s" in "".join(span.text for span in status.numbers(view.phase, True, 120, UNICODE))


@pytest.mark.parametrize(("logit", "feature"), [(None, None), (0.5, None), (None, 0.5), (0.5, 0.5)])
def test_weights_that_no_teacher_has_take_no_column(logit: float | None, feature: float | None) -> None:
    teachers = [{"name": f"vgg8-s{k}", "accuracy": 0.97, "logit_weight": logit, "feature_weight": feature} for k in (0, 1)]
    accuracies = {"ensemble_accuracy": 0.98, "student_alone_accuracy": 0.96, "student_accuracy": 0.975, "method": "aver"}
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(result_table({"teachers": teachers, **accuracies}))
    title, *rows = console.file.getvalue().splitlines()
    assert ("logit weight" in title) == (logit is not None)
    assert ("feature weight" in title) == (feature is not None)
    assert all(row.count("0.500") == (logit is not None) + (feature is not None) for row in rows[:2])
