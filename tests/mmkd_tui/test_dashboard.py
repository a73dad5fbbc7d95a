"""The dashboard: every key does what it says, every state is told, at every size, and no name is taken for markup."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.screens import (
    DISTILLING,
    END,
    SIZES,
    STORY,
    TEACHING,
    Clock,
    advance,
    dashboard,
    lines,
    look,
    played,
    run,
    shown,
    text,
    until,
)

from engine.event_writer import EventWriter
from engine.events import (
    Acknowledged,
    CheckpointSaved,
    EpochEnded,
    Event,
    Log,
    Metrics,
    PhaseStarted,
    RunEnded,
    RunStarted,
    TeacherReady,
)
from engine.run_client import DirectoryClient
from engine.run_dir import RunDir
from engine.run_state import RunState
from mmkd_tui.fake_client import FakeClient, story
from mmkd_tui.keys import keys_of
from mmkd_tui.panels.charts import Charts
from mmkd_tui.panels.log import LogPane
from mmkd_tui.panels.notice import NoticeBar
from mmkd_tui.panels.weights import WeightsByClass, WeightsNow, equal_weights
from mmkd_tui.screens.ask import Answer, Ask
from mmkd_tui.screens.dashboard import DashboardScreen
from mmkd_tui.settings import load_settings

HOSTILE = "[/red]x[bold]"
ESCAPE = "\x1b[31m\x07"
SHOWN = "[/red]x[bold]"


@pytest.mark.parametrize("size", SIZES)
def test_a_live_run_shows_state_progress_charts_and_weights(size: tuple[int, int]) -> None:
    async def test() -> None:
        async with shown(played(), size) as pilot:
            said = text(pilot.app)
            for words in ("fashion-mnist", "running", "2:30", "resnet8 by mmkd", "38%", "epoch 90/240", "1:30 left"):
                assert words in said
            for words in ("images/s", "lr 0.05", "validation", "loss", "accuracy", "resnet56", "vgg13", "wrn_40_2", "0.555"):
                assert words in said
            if size[0] >= 100:
                assert "hard buffer" in said
                assert "wrn_40_2 93.8%" in said or "w…2 93.8%" in said  # a line to beat
                assert "is in the store" in said  # the log

    run(test())


@pytest.mark.parametrize("size", SIZES)
def test_the_heading_tells_what_runs_of_one_preset_differ_in(size: tuple[int, int], tmp_path: Path) -> None:
    async def test() -> None:
        events = list(story(name="quickstart", epochs=2, teacher_epochs=1))
        events[0] = dataclasses.replace(events[0], seed=5, dataset="digits", device="cpu (2 threads)")  # type: ignore[type-var]
        client = FakeClient(events, speed=1.0, clock=Clock(), path=tmp_path)
        client.skip_to(2.0)
        (tmp_path / "meta.json").write_text('{"argv": ["run", "quickstart", "--set", "train.lr=0.1"]}')
        async with shown(client, size) as pilot:
            heading = lines(pilot.app)[0]
            for words in ("quickstart", "running", "0:02", "cpu (2 threads)", "seed 5", "resnet8 on digits"):
                assert words in heading
            assert ("3 teachers to resnet8" in heading) is (size[0] >= 100)
            assert ("train.lr=0.1" in heading) is (size[0] >= 160)

    run(test())


@pytest.mark.parametrize("size", SIZES)
def test_while_teachers_are_trained_they_are_listed_with_their_state(size: tuple[int, int]) -> None:
    async def test() -> None:
        client = played(TEACHING)
        async with shown(client, size) as pilot:
            said = text(pilot.app)
            assert "teacher 1/3 resnet56" in said
            assert "training" in said
            assert said.count("waiting") == 2
            assert "teachers' weights" not in said
            await advance(pilot, client, 20.0)
            assert re.search(r"resnet56 +trained", text(pilot.app))
            assert "93.12 %" in text(pilot.app)

    run(test())


@pytest.mark.parametrize("size", SIZES)
def test_a_finished_run_shows_the_result_and_what_to_do_next(size: tuple[int, int]) -> None:
    async def test() -> None:
        async with shown(played(END), size) as pilot:
            await look(pilot)
            said = text(pilot.app)
            for words in ("finished", "student distilled by mmkd", "91.86 %", "89.74 %", "student.safetensors", "mmkd run"):
                assert words in said
            assert re.match(r" best 9\d\.\d\d % \(epoch \d+\)  validation 9", said.splitlines()[2])

    run(test())


class AloneClient(FakeClient):
    """Of a run that trained teachers alone."""

    def result(self) -> Mapping[str, Any] | None:
        found = super().result()
        none = dict.fromkeys(("student_accuracy", "student_alone_accuracy", "best_epoch", "best_accuracy", "images_per_second"))
        return None if found is None else {**found, **none, "only_teachers": True}


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_a_run_of_teachers_alone_shows_no_student(size: tuple[int, int], trained: bool) -> None:
    """`trained`: not all of them were in the store."""

    def alone() -> Iterator[Event]:
        kinds = (TeacherReady, RunEnded, *((PhaseStarted, Metrics, EpochEnded) if trained else ()))
        for event in STORY:
            if isinstance(event, RunStarted):
                yield dataclasses.replace(event, only_teachers=True)
            elif isinstance(event, kinds) and getattr(event, "phase", "teacher") == "teacher":
                yield event

    async def test() -> None:
        client = AloneClient(tuple(alone()), speed=1.0, clock=Clock())
        client.skip_to(END)
        async with shown(client, size) as pilot:
            await look(pilot)
            said = text(pilot.app)
            for words in ("finished", "teacher vgg13", "plain average", "mmkd teachers list", "result.json"):
                assert words in said
            assert size[0] < 100 or "3 teachers alone on fashion-mnist" in said
            for words in ("student", "None", "distil", "no training was begun"):
                assert words not in said
            assert ("no training was needed" in said) == (not trained)

    run(test())


LONG = tuple(f"timm:convnext_tiny.fb_in22k_ft_in1k-s{number}" for number in range(12))


@pytest.mark.parametrize("ascii", [False, True])
def test_the_accuracies_of_a_finished_student_are_on_the_screen_however_many_teachers_it_had(ascii: bool) -> None:
    async def test() -> None:
        events = list(story(teachers=LONG, epochs=9, teacher_epochs=2))
        async with shown(played(END, events), (120, 60), ascii=ascii) as pilot:
            await look(pilot)
            for size in ((60, 16), *SIZES):
                await pilot.resize_terminal(*size)
                await pilot.pause()
                said = text(pilot.app)
                for words in ("test accuracy", "94.51 %", "89.74 %", "91.86 %"):
                    assert words in said, size
                assert ("more teachers" in said) == (size[1] < 30)

    run(test())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("state", "words"),
    [
        (RunState.CRASHED, ("crashed", "process is gone", "R starts it again", "last words")),
        (RunState.FAILED, ("failed", "R starts it again", "last words")),
        (RunState.NOT_RESPONDING, ("not responding", "no sign of life", "4711")),
        (RunState.STOPPED, ("stopped", "R goes on")),
    ],
)
def test_trouble_is_told_with_what_to_do(state: RunState, words: tuple[str, ...], size: tuple[int, int]) -> None:
    async def test() -> None:
        client = played()
        client.console = ["last words"]
        async with shown(client, size) as pilot:
            client.forced = state
            await look(pilot)
            for word in words:
                assert word in text(pilot.app)

    run(test())


def test_a_loss_that_is_no_number_is_an_alarm() -> None:
    async def test() -> None:
        events: list[Event] = list(story())
        index = next(i for i, e in enumerate(events) if isinstance(e, Metrics) and e.phase == "distil" and e.epoch == 80)
        bad = dataclasses.replace(events[index], loss=None)
        why = "the loss of resnet8 is not a finite number"
        client = played(END, [*events[:index], bad, RunEnded(t=bad.t, state="failed", message=why)])
        async with shown(client) as pilot:
            await look(pilot)
            assert "NaN" in text(pilot.app)
            assert why in text(pilot.app)
            client.forced = RunState.RUNNING
            await look(pilot)
            assert "The loss is not a number at epoch 80" in text(pilot.app)

    run(test())


EVERYWHERE = [
    (at, size, ascii)
    for size, ascii in (((60, 16), False), ((80, 24), True), ((100, 30), False), ((160, 48), True))
    for at in (TEACHING, DISTILLING, END)
]
# One of each size and of each moment; all of them take long.
SOMEWHERE = [EVERYWHERE[0], EVERYWHERE[4], EVERYWHERE[8], EVERYWHERE[9]]
ELSEWHERE = [pytest.param(*case, marks=pytest.mark.slow) for case in EVERYWHERE if case not in SOMEWHERE]


@pytest.mark.parametrize(("at", "size", "ascii"), [(0.0, (80, 24), True), *SOMEWHERE, *ELSEWHERE])
def test_names_are_never_markup_and_never_move_the_cursor(at: float, size: tuple[int, int], ascii: bool) -> None:
    async def test() -> None:
        name = HOSTILE + ESCAPE
        events = list(story(name=name, teachers=(name, "b" * 300, "漢字"), classes=(name, *"bcdefghij")))
        events.insert(2, Log(t=0.0, level="error", message=name))
        client = FakeClient(events, speed=1.0, clock=played(0)._clock, path=Path(f"/tmp/{name}"))
        client.skip_to(at)
        client.console = [name]
        async with shown(client, size, ascii=ascii) as pilot:
            seen = ""
            for keys in ((), ("w",), ("w", "l"), ("l", "c"), ("escape", "question_mark"), ("escape", "Y")):
                await pilot.press(*keys)
                await look(pilot)
                seen += text(pilot.app)
            client.forced = RunState.FAILED
            await look(pilot)
            seen += text(pilot.app)
            assert "\x1b" not in seen
            assert "\x07" not in seen
            assert SHOWN in seen
            if at in (DISTILLING, END) and size[0] >= 80:
                assert seen.count(SHOWN) > 3

    run(test())


def test_in_ascii_all_is_ascii() -> None:
    async def test() -> None:
        for at in (TEACHING, DISTILLING, END):
            async with shown(played(at), (160, 48), ascii=True) as pilot:
                for key in ("f24", "w", "question_mark"):
                    await pilot.press(key)
                    await pilot.pause()
                    assert text(pilot.app).isascii(), (at, key)

    run(test())


def test_in_ascii_names_and_trouble_are_ascii_too() -> None:
    async def test() -> None:
        name = "modèle-漢字"
        events = [*story(name=name, teachers=(name,), epochs=2, teacher_epochs=1)]
        events.insert(1, Log(t=0.0, level="info", message=name))
        events[-1] = RunEnded(t=events[-1].t, state="failed", message=name)
        client = FakeClient(events, speed=1.0, clock=played(0)._clock, path=Path(f"/tmp/{name}"))
        client.skip_to(END)
        client.console = [name]
        async with shown(client, (120, 40), ascii=True) as pilot:
            for state in (RunState.FAILED, RunState.CRASHED, RunState.STOPPED, RunState.FINISHED):
                client.forced = state
                await look(pilot)
                assert text(pilot.app).isascii(), state
            for keys in (("F",), ("E",), ("c",), ("escape",)):  # toasts, and a dialog
                await pilot.press(*keys)
                await until(pilot, lambda: "Copied" in text(pilot.app))
                assert text(pilot.app).isascii(), keys
            pilot.app.push_screen(Ask(name, name, [Answer("keep", "Keep it")]))
            await until(pilot, lambda: "Keep it" in text(pilot.app))
            assert text(pilot.app).isascii()
            assert "mod\\xe8le" in text(pilot.app)

    run(test())


# -- keys


def test_pausing_is_said_until_it_is_acknowledged() -> None:
    async def test() -> None:
        client = played()
        client.answers = False
        async with shown(client) as pilot:
            await pilot.press("p")
            await look(pilot)
            assert "pausing" in text(pilot.app)
            client._obey(*client.requests[0])
            await look(pilot)
            assert "pausing" not in text(pilot.app)
            assert "‖ paused" in text(pilot.app)
            client.answers = True
            await pilot.press("p")
            await look(pilot)
            assert "running" in text(pilot.app)
        assert [command for _, command in client.requests] == ["pause", "resume"]

    run(test())


def test_a_checkpoint_is_asked_for() -> None:
    async def test() -> None:
        client = played()
        async with shown(client) as pilot:
            await pilot.press("k")
            await look(pilot)
            assert "checkpoints/demo" in text(pilot.app)
        assert [command for _, command in client.requests] == ["checkpoint"]

    run(test())


@pytest.mark.parametrize("saved", [True, False])
def test_what_came_of_a_checkpoint_is_told_where_the_log_is_hidden(saved: bool) -> None:
    async def test() -> None:
        client = played()
        client.answers = False
        told = "Saved checkpoints/demo" if saved else "Not saved; the log says why"
        async with shown(client, (80, 24)) as pilot:
            await pilot.press("k")
            if saved:
                client._told.append(CheckpointSaved(t=0.0, path="checkpoints/demo", step=0))
            client._told.append(Acknowledged(t=0.0, id=client.requests[-1][0], command="checkpoint"))
            await until(pilot, lambda: told in text(pilot.app))
            client.answers = True
            client.request("checkpoint")  # by somebody else
            await look(pilot)
            assert [note.message for note in pilot.app._notifications] == [told]

    run(test())


def test_the_chart_key_goes_round_where_there_is_room_for_one() -> None:
    async def test() -> None:
        async with shown(played(), (80, 24)) as pilot:
            charts = pilot.app.screen.query_one(Charts)
            visible = []
            for _ in range(4):
                visible.append([chart.id for chart in charts.all if chart.display and chart.styles.display != "none"])
                await pilot.press("t")
            assert visible == [["loss"], ["accuracy"], ["norms"], ["loss"]]
            assert "t Chart" in text(pilot.app).splitlines()[-1]
            await pilot.resize_terminal(100, 30)
            await pilot.pause()
            assert "t Chart" not in text(pilot.app)
            await pilot.resize_terminal(80, 24)
            await pilot.pause()
            assert "t Chart" in text(pilot.app)

    run(test())


@pytest.mark.parametrize("size", SIZES)
def test_the_weights_view_shows_the_weights_by_class(size: tuple[int, int]) -> None:
    async def test() -> None:
        async with shown(played(), size) as pilot:
            await pilot.press("w")
            await pilot.pause()
            for words in ("logit weights by class, epoch 90", "Ankle boot", "Trouser", "resnet56", "◀"):
                assert words in text(pilot.app)
            if size[0] < 100:
                await pilot.press("t")
                await pilot.pause()
            assert "feature weights by class" in text(pilot.app)
            await pilot.press("w")
            await pilot.pause()
            assert "by class" not in text(pilot.app)

    run(test())


@pytest.mark.parametrize("size", [(60, 16), *SIZES])
@pytest.mark.parametrize(("logit", "feature"), [(1 / 3, 1 / 3), (1 / 3, None), (None, None)])
def test_weights_that_are_all_the_same_are_told_in_one_line(
    size: tuple[int, int], logit: float | None, feature: float | None
) -> None:
    async def test() -> None:
        rows = {kind: () if value is None else (value,) * 3 for kind, value in (("logit", logit), ("feature", feature))}
        now = {f"{kind}_weights": row for kind, row in rows.items()}
        by_class = {f"{kind}_weights_by_class": (row,) * 10 if row else () for kind, row in rows.items()}
        events = [dataclasses.replace(e, **now) if isinstance(e, Metrics) and e.phase == "distil" else e for e in story()]
        changed = {**now, **by_class}
        events = [dataclasses.replace(e, **changed) if isinstance(e, EpochEnded) and e.logit_weights else e for e in events]
        async with shown(played(DISTILLING, events), size) as pilot:
            await pilot.press("w")
            await pilot.pause()
            said = text(pilot.app)
            line = "mmkd weighs all teachers alike (0.333 each)" if logit else "mmkd gives the teachers no weights"
            assert said.count(line) == 1
            assert "resnet56" not in said
            assert said.count("weights by") == 1
            await pilot.press("t")  # there is no other kind to go to
            await pilot.pause()
            assert line in text(pilot.app)

    run(test())


def test_of_two_kinds_the_one_that_is_the_same_everywhere_is_told_in_a_line() -> None:
    async def test() -> None:
        same = {"feature_weights_by_class": ((1 / 3,) * 3,) * 10}
        events = [dataclasses.replace(e, **same) if isinstance(e, EpochEnded) and e.logit_weights else e for e in story()]
        async with shown(played(DISTILLING, events), (100, 30)) as pilot:
            await pilot.press("w")
            await pilot.pause()
            for words in ("logit weights by class", "Ankle boot", "feature weights by class", "alike (0.333 each)"):
                assert words in text(pilot.app)

    run(test())


def test_with_many_teachers_nothing_is_cut_off_without_a_sign() -> None:
    async def test() -> None:
        names = tuple(f"resnet32x4-s{number}" for number in range(8))
        events = [event for event in story(teachers=names, epochs=9, teacher_epochs=2) if not isinstance(event, RunEnded)]
        async with shown(played(END, events), (120, 50)) as pilot:
            for size in ((60, 16), *SIZES):
                await pilot.resize_terminal(*size)
                await look(pilot)
                assert "epoch 0" in text(pilot.app), size  # the axis of a chart
                screen = pilot.app.screen
                for part in ("#bars", "#logit-strip", "#feature-strip", "#log"):
                    if (widget := screen.query_one(part)).is_on_screen:
                        assert widget.region in screen.query_one("#curves").region, (size, part)
                await pilot.press("w")
                await look(pilot)
                for part in ("#logit-grid", "#logit-past"):
                    if (widget := screen.query_one(part)).is_on_screen:
                        assert widget.region in screen.query_one("#by-class").region, (size, part)
                assert ("+6 more" in text(pilot.app)) == (size == (80, 24))
                await pilot.press("w")

    run(test())


@pytest.mark.parametrize("size", [(60, 16), (80, 24)])
def test_of_a_long_failure_what_helps_is_not_cut(size: tuple[int, int]) -> None:
    async def test() -> None:
        events = [*story(epochs=2, teacher_epochs=1)]
        events[-1] = RunEnded(t=events[-1].t, state="failed", message="a reason that is told at length " * 9)
        async with shown(played(END, events), size) as pilot:
            await look(pilot)
            bar = pilot.app.screen.query_one(NoticeBar)
            said = lines(pilot.app)[bar.region.y : bar.region.bottom]
            assert len(said) == 5
            assert "The run failed: a reason" in said[0]
            assert sum("…" in line for line in said) == 1
            assert any("R starts it again from its newest checkpoint" in line for line in said)

    run(test())


def test_what_is_said_of_equal_weights() -> None:
    third = (1 / 3, 1 / 3 + 1e-8, 1 / 3)
    assert equal_weights("aver", 3, (third, (0.0, 0.0, 0.0), third)) == "aver weighs all teachers alike (0.333 each)"
    assert equal_weights("aver", 3, (third, (0.3334, 0.3333, 0.3333))) == ""
    assert equal_weights("aver", 3, (third, (1 / 3, math.nan, 1 / 3))) == ""
    assert equal_weights("aver", 3, ((0.0, 0.0, 0.0),)) == ""  # no sample so far
    assert equal_weights("kd", 1, ((1.0,), (1.0,))) == "One teacher: there is nothing to weigh"
    assert equal_weights("mmkd", 1, ((0.4,), (0.5,))) == ""
    assert equal_weights("ce", 0, ()) == "No teachers: there is nothing to weigh"


def test_the_log_is_hidden_and_shown_and_that_is_remembered() -> None:
    async def test() -> None:
        async with shown(played()) as pilot:
            log = pilot.app.screen.query_one(LogPane)
            assert log.styles.display == "block"
            await pilot.press("l")
            assert log.styles.display == "none"
            assert not load_settings().log
            await pilot.press("l")
            assert log.styles.display == "block"
        async with shown(played(), (80, 24)) as pilot:
            assert "is in the store" not in text(pilot.app)
            await pilot.press("l")
            await pilot.pause()
            assert "is in the store" in text(pilot.app)
            assert load_settings().log

    run(test())


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_the_log_of_a_broken_run_is_there_and_its_key_does_nothing_in_secret(size: tuple[int, int]) -> None:
    async def test() -> None:
        client = played()
        async with shown(client, size) as pilot:
            client.forced = RunState.CRASHED
            await look(pilot)
            assert "l Log" not in text(pilot.app).splitlines()[-1]
            await pilot.press("l")
            await pilot.pause()
            assert "the end of console.log" in text(pilot.app)
            assert load_settings().log

    run(test())


@pytest.mark.parametrize("size", SIZES)
def test_the_log_of_a_finished_run_is_shown_where_the_result_leaves_no_room_beside_the_charts(size: tuple[int, int]) -> None:
    async def test() -> None:
        async with shown(played(END), size) as pilot:
            await look(pilot)
            before = "is in the store" in text(pilot.app)
            await pilot.press("l")
            await pilot.pause()
            assert ("is in the store" in text(pilot.app)) is not before
            assert "student distilled by mmkd" in text(pilot.app)
            await pilot.press("l")
            await pilot.pause()
            assert ("is in the store" in text(pilot.app)) is before

    run(test())


def test_the_log_has_a_scroll_bar_when_it_needs_one_and_says_when_it_is_empty() -> None:
    async def test() -> None:
        events = [event for event in story() if not isinstance(event, Log)]
        async with shown(played(DISTILLING, events)) as pilot:
            log = pilot.app.screen.query_one(LogPane)
            assert "nothing so far" in text(pilot.app)
            assert not log.show_vertical_scrollbar
        many = [Log(t=events[0].t, level="info", message=f"message {number}") for number in range(60)]
        async with shown(played(DISTILLING, [*events[:1], *many, *events[1:]])) as pilot:
            log = pilot.app.screen.query_one(LogPane)
            assert "message 59" in text(pilot.app)
            assert "nothing so far" not in text(pilot.app)
            assert log.show_vertical_scrollbar

    run(test())


def test_what_is_said_while_the_log_is_hidden_is_read_in_whole_lines_afterwards() -> None:
    async def test() -> None:
        client = played()
        async with shown(client, (80, 24)) as pilot:
            await pilot.press("l", "l", "k")  # shown, hidden, and then something is said
            await look(pilot)
            await pilot.press("l")
            await pilot.pause()
            log = pilot.app.screen.query_one(LogPane)
            assert any("checkpoint checkpoints/demo" in line for line in lines(pilot.app))
            assert log.scroll_offset.y == log.max_scroll_y
            assert len(log.lines) == 5

    run(test())


def broken_story(begun: bool = True) -> list[Event]:
    """A run that fails while its student is trained alone, or before any training has `begun`."""
    events = [event for event in story() if not isinstance(event, Log)]
    alone = [index for index, event in enumerate(events) if isinstance(event, Metrics) and event.phase == "alone"]
    events = events[: alone[60] if begun else 1]
    now = events[-1].t
    trace = "Traceback (most recent call last):\n  in train\nRuntimeError: no luck\n"
    events.append(Log(t=now, level="warning", message="vgg13 is weak"))
    events.append(Log(t=now, level="error", message=trace))
    events.append(RunEnded(t=now, state="failed", message="RuntimeError: no luck"))
    return events


def console_of(events: Iterable[Event], folder: Path) -> list[str]:
    """What is in the console of a run that emits these events, and a library's words among them."""
    writer = EventWriter(RunDir(folder))
    for event in events:
        if isinstance(event, RunEnded):
            with RunDir(folder).console.open("a") as file:
                file.write("a library's words\n")
        writer(event)
    writer.close()
    return list(DirectoryClient(folder).console_tail())


@pytest.mark.parametrize("size", SIZES)
def test_the_log_of_a_failed_run_tells_each_thing_once_and_the_console_last(size: tuple[int, int], tmp_path: Path) -> None:
    async def test() -> None:
        client = played(END, broken_story())
        client.console = console_of(broken_story(), tmp_path)
        async with shown(client, size) as pilot:
            await look(pilot)
            log = [re.sub(r"^\d\d:\d\d:\d\d ", "", line.text.rstrip()) for line in pilot.app.screen.query_one(LogPane).lines]
            assert [line for line in log if "weak" in line or "no luck" in line] == [
                "warning: vgg13 is weak",
                "RuntimeError: no luck",  # the end of the traceback
                "error: RuntimeError: no luck",
            ]
            assert log[-2:] == ["the end of console.log:", "a library's words"]

    run(test())


def test_a_failed_run_has_a_chart_in_few_rows_and_none_where_there_is_nothing_to_draw() -> None:
    async def test() -> None:
        for begun in (True, False):
            client = played(END, broken_story(begun))
            async with shown(client, (80, 24)) as pilot:
                await look(pilot)
                drawn = [line for line in lines(pilot.app) if "┤" in line]
                assert len(drawn) >= 2 if begun else not drawn
                assert (" loss  accuracy " in text(pilot.app)) is begun
                assert "error: RuntimeError: no luck" in text(pilot.app)

    run(test())


def test_a_second_failure_shows_its_own_console() -> None:
    async def test() -> None:
        client = played()
        async with shown(client, (120, 40)) as pilot:
            for state, console in (
                (RunState.FAILED, ["RuntimeError: the first"]),
                (RunState.RUNNING, []),
                (RunState.FAILED, ["RuntimeError: the first", "RuntimeError: the second"]),
                (RunState.CRASHED, ["RuntimeError: the first", "RuntimeError: the second"]),
            ):
                client.forced, client.console = state, console
                await look(pilot)
            assert "RuntimeError: the second" in text(pilot.app)
            assert text(pilot.app).count("the end of console.log") == 2

    run(test())


def test_log_y_and_smoothing_are_toggled_and_remembered() -> None:
    async def test() -> None:
        async with shown(played(), (160, 48)) as pilot:
            charts = pilot.app.screen.query_one(Charts)
            await pilot.press("y", "m")
            await pilot.pause()
            assert charts.loss.log_y
            assert [chart.smoothing for chart in charts.all] == [0.9] * 3
            assert "log y" in text(pilot.app)
        async with shown(played()) as pilot:
            charts = pilot.app.screen.query_one(Charts)
            assert charts.loss.log_y
            assert charts.accuracy.smoothing == 0.9
            await pilot.press("y", "m")
            assert not charts.loss.log_y
            assert charts.accuracy.smoothing == 0.0

    run(test())


def test_earlier_trainings_can_be_looked_at() -> None:
    async def test() -> None:
        async with shown(played()) as pilot:
            assert "loss of resnet8 by mmkd" in text(pilot.app)
            await pilot.press("[")
            await pilot.pause()
            assert "loss of resnet8 alone" in text(pilot.app)
            await pilot.press("[", "[", "[", "[", "[")
            await pilot.pause()
            assert "loss of resnet56" in text(pilot.app)
            await pilot.press("]", "]", "]", "]")
            await pilot.pause()
            assert "loss of resnet8 by mmkd" in text(pilot.app)
            assert not pilot.app.screen.check_action("later", ())

    run(test())


@pytest.mark.parametrize("width", [60, 80])
def test_where_one_chart_has_room_its_title_says_whose_curves_it_shows_if_not_those_of_now(width: int) -> None:
    async def test() -> None:
        async with shown(played(), (width, 24)) as pilot:
            assert " of " not in text(pilot.app)
            await pilot.press("[")
            await pilot.pause()
            assert "hyper-gradient" not in text(pilot.app)  # the student alone has no weights
            assert " loss  accuracy  of resnet8 alone " in text(pilot.app)
            await pilot.press("t", "[")
            await pilot.pause()
            assert " of wrn_40_2 " in text(pilot.app)
            await pilot.press("]", "]")
            await pilot.pause()
            assert " of " not in text(pilot.app)

    run(test())


@pytest.mark.parametrize("size", [(80, 24), (160, 48)])
def test_of_an_earlier_training_no_weights_are_waited_for(size: tuple[int, int]) -> None:
    async def test() -> None:
        async with shown(played(END, list(story(epochs=3, teacher_epochs=1))), size) as pilot:
            for keys in (("left_square_bracket",), ("w",)):
                await pilot.press(*keys)
                await look(pilot)
                assert "waiting" not in text(pilot.app)
            await pilot.press("right_square_bracket")
            await look(pilot)
            assert "logit weights by epoch" in text(pilot.app)

    run(test())


def test_a_run_without_teachers_says_so_and_counts_none() -> None:
    async def test() -> None:
        async with shown(played(END, list(story(teachers=(), epochs=2, teacher_epochs=1))[:-1]), (160, 48)) as pilot:
            for words in ("resnet8 on fashion-mnist", "student alone"):
                assert words in text(pilot.app)
            assert "0 teachers" not in text(pilot.app)
            assert "no teachers yet" not in text(pilot.app)
        events = list(story(teachers=("vgg8",), epochs=2, teacher_epochs=1))
        async with shown(played(END, events), (160, 48)) as pilot:
            assert "1 teacher to resnet8" in text(pilot.app)
        async with shown(played(0.0, list(story(teachers=()))[:1]), (160, 48)) as pilot:
            assert "this run has no teachers" in text(pilot.app)

    run(test())


@pytest.mark.parametrize(("key", "part"), [("Y", "mmkd attach"), ("F", "runs/demo")])
def test_copying(key: str, part: str) -> None:
    async def test() -> None:
        async with shown(played()) as pilot:
            await pilot.press(key)
            assert part in pilot.app.clipboard
            await until(pilot, lambda: "Copied" in text(pilot.app))

    run(test())


def test_a_path_that_is_no_text_is_copied_as_far_as_it_is() -> None:
    async def test() -> None:
        client = played()
        client.path, client.forced = Path(os.fsdecode(b"/tmp/run-\xff-1")), RunState.CRASHED
        async with shown(client) as pilot:
            for key in ("Y", "F", "E"):
                await pilot.press(key)
                assert "/tmp/run-?-1" in pilot.app.clipboard or key == "E"
                await until(pilot, lambda: "Copied" in text(pilot.app))

    run(test())


def test_an_error_is_copied_with_the_console() -> None:
    async def test() -> None:
        client = played()
        client.forced = RunState.CRASHED
        client.console = ["Traceback", "\x1b[31mOutOfMemoryError"]
        async with shown(client) as pilot:
            await pilot.press("E")
            assert pilot.app.clipboard.splitlines()[1:] == ["Traceback", "\\x1b[31mOutOfMemoryError"]

    run(test())


def test_what_does_not_apply_is_neither_in_the_footer_nor_in_the_palette() -> None:
    async def test() -> None:
        client = played()
        async with shown(client, (160, 48)) as pilot:
            screen = pilot.app.screen

            def offered() -> set[str]:
                return {command.title for command in pilot.app.get_system_commands(screen)}

            assert {"Pause", "Stop", "Checkpoint", "Weights", "Theme", "Leave"} <= offered()
            assert not {"Go on", "Resume", "Copy error", "Chart"} & offered()
            assert "Pause" in text(pilot.app).splitlines()[-1]
            client.forced = RunState.CRASHED
            await look(pilot)
            assert not {"Pause", "Stop", "Checkpoint", "Go on"} & offered()
            assert "Copy error" in offered()
            assert "Pause" not in text(pilot.app).splitlines()[-1]

    run(test())


def test_the_weights_of_a_finished_run_have_the_room_of_its_result() -> None:
    async def test() -> None:
        async with shown(played(END), (80, 24)) as pilot:
            await look(pilot)
            await pilot.press("w")
            await pilot.pause()
            assert "student distilled by mmkd" not in text(pilot.app)
            assert "Ankle boot" in text(pilot.app)  # the last class
            assert "Log" not in text(pilot.app).splitlines()[-1]  # it would do nothing that is seen
            await pilot.press("w")
            await pilot.pause()
            assert "student distilled by mmkd" in text(pilot.app)

    run(test())


def test_what_applies_is_known_before_anything_is_on_the_screen() -> None:
    screen = DashboardScreen(played(DISTILLING))
    assert all(screen.check_action(key.action, ()) in (True, False) for key in keys_of("dashboard"))


def test_the_weights_key_is_offered_as_soon_as_there_are_weights() -> None:
    async def test() -> None:
        client = played(TEACHING)
        async with shown(client, (120, 36)) as pilot:
            footer = text(pilot.app).splitlines()[-1]
            assert "p Pause" in footer
            assert "w Weights" not in footer
            await advance(pilot, client, DISTILLING - TEACHING)
            assert "w Weights" in text(pilot.app).splitlines()[-1]

    run(test())


def test_the_palette_does_what_a_key_does() -> None:
    async def test() -> None:
        client = played()
        async with shown(client) as pilot:
            await pilot.press("ctrl+p")
            await pilot.press(*"pause")
            await pilot.pause(0.5)
            await pilot.press("enter")
            await until(pilot, lambda: bool(client.requests))
        assert client.requests[0][1] == "pause"

    run(test())


def test_help_shows_the_keys_of_the_dashboard() -> None:
    async def test() -> None:
        async with shown(played(), (160, 48)) as pilot:
            await pilot.press("question_mark")
            await pilot.pause()
            for key in keys_of("dashboard"):
                assert key.description in text(pilot.app)
            await pilot.press("escape")
            assert pilot.app.screen is dashboard(pilot.app)

    run(test())


def test_every_key_can_be_pressed_at_any_time() -> None:
    async def test() -> None:
        names = [name for key in keys_of("dashboard") for name in key.keys.split(",") if key.action not in ("home", "compare")]
        for at, size in ((0.0, (60, 16)), (TEACHING, (80, 24)), (END, (100, 30))):
            async with shown(played(at), size) as pilot:
                for name in names:
                    await pilot.press(name)
                    if pilot.app.screen is not dashboard(pilot.app):
                        await pilot.press("escape")
                await look(pilot)
                assert pilot.app.is_running

    run(test())


# -- following


def test_numbers_move_as_the_run_goes_on() -> None:
    async def test() -> None:
        client = played()
        async with shown(client) as pilot:
            before = text(pilot.app)
            await advance(pilot, client, 30.0)
            after = text(pilot.app)
            assert "epoch 140/240" in after
            assert "3:00" in after
            assert before != after

    run(test())


def test_a_pause_does_not_count_as_time_left() -> None:
    async def test() -> None:
        client = played()
        async with shown(client) as pilot:
            left = dashboard(pilot.app).follower.view.phase.seconds_left(client._clock())  # type: ignore[union-attr]
            await pilot.press("p")
            await advance(pilot, client, 3600.0)
            await pilot.press("p")
            await advance(pilot, client, 1.0)
            phase = dashboard(pilot.app).follower.view.phase
            assert phase is not None
            assert left is not None
            assert abs((phase.seconds_left(client._clock()) or 0.0) - left) < 5.0

    run(test())


def test_weights_of_a_method_without_weights_are_not_waited_for() -> None:
    async def test() -> None:
        bare = {"logit_weights": (), "feature_weights": (), "logit_spread": (), "feature_spread": ()}
        events = [dataclasses.replace(e, **bare) if isinstance(e, Metrics) else e for e in story()]
        async with shown(played(DISTILLING, events)) as pilot:
            assert pilot.app.screen.query_one(WeightsNow).styles.display == "block"
        events = [e for e in events if type(e).__name__ != "EpochEnded"]
        async with shown(played(DISTILLING, events)) as pilot:
            assert pilot.app.screen.query_one(WeightsNow).styles.display == "none"
            assert re.search(r"resnet56 +trained", text(pilot.app))
            assert pilot.app.screen.query_one(WeightsByClass).styles.display == "none"

    run(test())


def test_a_run_without_a_single_event_shows_that_it_is_loading() -> None:
    async def test() -> None:
        client = played(0.0, [])
        client.forced = RunState.STARTING
        async with shown(client) as pilot:
            await look(pilot)
            assert "starting" in text(pilot.app)
            assert "loading the data" in text(pilot.app)

    run(test())


def test_resizing_at_any_time_keeps_drawing() -> None:
    async def test() -> None:
        client = played()
        async with shown(client) as pilot:
            for size in ((300, 100), (60, 16), (80, 24), (20, 5), (1, 1), (160, 48), (100, 30)):
                await pilot.resize_terminal(*size)
                await advance(pilot, client, 0.3)
            assert "running" in text(pilot.app)

    run(test())
