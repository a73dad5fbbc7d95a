"""The wizard, by keyboard alone: every step, mistakes beside their fields, back keeps all, what is saved runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from support import picture_sets as sets
from support.hosts import no_process_left
from support.presets import tiny
from support.screens import SIZES, run, text, until
from support.stock import quickstart, stored
from textual import events
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input

from engine import paths
from engine.catalog import METHODS
from engine.preset import METHOD_PARTS, TeacherPart, TrainPart
from engine.preset_yaml import dump_preset, load_preset, parse_preset
from engine.run_client import DirectoryClient
from engine.run_state import RunState
from mmkd_tui.app import MmkdApp
from mmkd_tui.draft import Draft
from mmkd_tui.screens.ask import Ask, AskText
from mmkd_tui.screens.dashboard import DashboardScreen
from mmkd_tui.screens.help import HelpScreen
from mmkd_tui.screens.home import HomeScreen
from mmkd_tui.stock import Network
from mmkd_tui.widgets.table import Table
from mmkd_tui.wizard.form import SettingRow
from mmkd_tui.wizard.review import guess_lines
from mmkd_tui.wizard.screen import WizardScreen, target_of, wrong_target
from mmkd_tui.wizard.teachers import TeacherScreen, other_than

HOSTILE = "[/red]x[bold]\x1b[31m"
SHOWN = "[/red]x[bold]\\x1b[31m"
TITLES = ("Data set", "Teachers", "Student", "Method", "Hardware", "Review")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@contextlib.asynccontextmanager
async def wizard(draft: Draft | None = None, size: tuple[int, int] = (100, 30), **options: object) -> AsyncIterator[Pilot[str]]:
    """The app with the wizard above the home screen."""
    app = MmkdApp(runs_dir=Path.cwd() / "runs", **options)  # type: ignore[arg-type]
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))
        app.push_screen(WizardScreen(draft or Draft.new()))
        await at_step(pilot, 0)
        yield pilot


def screen(pilot: Pilot[str]) -> WizardScreen:
    """The wizard, whatever lies on top of it."""
    return next(one for one in pilot.app.screen_stack if isinstance(one, WizardScreen))


async def at_step(pilot: Pilot[str], number: int) -> None:
    """Waits until a step is shown."""
    await until(
        pilot, lambda: isinstance(pilot.app.screen, WizardScreen) and f"[{number + 1} {TITLES[number]}]" in text(pilot.app)
    )
    await until(pilot, lambda: (pilot.app.focused is not None and screen(pilot).steps[number].has_focus_within) or number == 5)
    await pilot.pause()


async def go(pilot: Pilot[str], number: int, by_key: bool = False) -> None:
    """To a step: at once, as a click on its name does, or from step to step."""
    while by_key and screen(pilot)._at != number:
        await pilot.press("ctrl+n" if screen(pilot)._at < number else "ctrl+o")
        await pilot.pause()
    if not by_key:
        await screen(pilot).go(number).wait()
    await at_step(pilot, number)


async def to_field(pilot: Pilot[str], path: tuple[str | int, ...], by_tab: bool = False) -> None:
    """To the field of a setting."""
    if not by_tab:
        next(row for row in pilot.app.screen.query(SettingRow) if row.path == path).editor.focus()
        await pilot.pause()
        return
    for _ in range(60):
        focused = pilot.app.focused
        if focused is not None:
            row = next((node for node in focused.ancestors if isinstance(node, SettingRow)), None)
            if row is not None and row.path == path:
                return
        await pilot.press("tab")
    raise AssertionError(f"no field {path}")


async def retype(pilot: Pilot[str], path: tuple[str | int, ...], value: str, by_tab: bool = False) -> None:
    """Another value in an input: put in at once, or key by key."""
    await to_field(pilot, path, by_tab)
    editor = pilot.app.focused
    if by_tab or not isinstance(editor, Input):
        await pilot.press("end", "ctrl+u", *(_key(character) for character in value))
    else:
        editor.value = value
    await pilot.pause()


def _key(character: str) -> str:
    names = {
        ".": "full_stop",
        ",": "comma",
        "-": "minus",
        "/": "slash",
        " ": "space",
        "_": "underscore",
        "[": "left_square_bracket",
    }
    return names.get(character, character)


def problem_of(pilot: Pilot[str], path: tuple[str | int, ...]) -> str:
    """What stands beside a field on the screen in hand."""
    return next(row._problem for row in pilot.app.screen.query(SettingRow) if row.path == path)


@pytest.mark.slow
def test_the_whole_wizard_by_keyboard_alone(tmp_path: Path) -> None:
    """From the home screen to a saved file, which reads back equal, and then to a run of it."""
    target = tmp_path / "by-hand.yaml"

    async def look() -> None:
        app = MmkdApp(runs_dir=tmp_path / "runs")
        async with app.run_test(size=(80, 24)) as pilot:
            await until(pilot, lambda: isinstance(app.screen, HomeScreen))
            await pilot.press("n")
            await at_step(pilot, 0)
            await pilot.press("enter")  # digits is chosen: on
            await at_step(pilot, 1)
            await pilot.press(*"resnet8", "enter")
            await pilot.press("ctrl+u", *"resnet14", "enter")
            for number in (0, 1):
                await pilot.press("tab", *(["down"] * number), "enter")
                await until(pilot, lambda: isinstance(app.screen, TeacherScreen))
                await retype(pilot, ("teachers", number, "train", "epochs"), "1", by_tab=True)
                await pilot.press("ctrl+s")
                await at_step(pilot, 1)
                await pilot.press("shift+tab")
            await pilot.press("ctrl+n")
            await at_step(pilot, 2)
            await pilot.press("down", "enter", "enter")  # resnet14, and on
            await at_step(pilot, 3)
            await pilot.press("enter")
            await retype(pilot, ("method", "beta"), "1", by_tab=True)
            await retype(pilot, ("method", "meta", "buffer_size"), "64", by_tab=True)
            await retype(pilot, ("train", "epochs"), "500", by_tab=True)
            await to_field(pilot, ("train", "augment"), by_tab=True)
            await pilot.press("right")
            await go(pilot, 4, by_key=True)
            await retype(pilot, ("hardware", "device"), "cpu", by_tab=True)
            await go(pilot, 5, by_key=True)
            await retype(pilot, ("name",), "by-hand", by_tab=True)
            assert "ready to run" in text(app)
            await pilot.press("ctrl+s")
            await until(pilot, lambda: isinstance(app.screen, AskText))
            await pilot.press("enter")
            await until(pilot, target.exists)
            draft = screen(pilot).draft
            preset = load_preset(target)
            assert preset == draft.preset()
            assert [(t.arch, t.seed, t.recipe.epochs) for t in preset.teachers] == [("resnet8", 0, 1), ("resnet14", 0, 1)]
            assert (preset.student.arch, preset.train.epochs, preset.train.augment) == ("resnet14", 500, False)
            assert (preset.method.beta, preset.method.meta.buffer_size) == (1, 64)  # type: ignore[union-attr]
            assert preset.hardware.device == "cpu"
            assert not draft.changed

            await at_step(pilot, 5)
            await pilot.press("ctrl+r")
            await until(pilot, lambda: isinstance(app.screen, DashboardScreen))
            (folder,) = (tmp_path / "runs").iterdir()
            assert load_preset(folder / "preset.yaml") == preset
            client = DirectoryClient(folder)
            await until(pilot, lambda: client.state() is RunState.RUNNING, 90)
            client.request("stop")
            await until(pilot, lambda: not client.state().live, 60)
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, HomeScreen))
            assert "by-hand" in text(app)

    with no_process_left(tmp_path / "runs"):
        run(look())


@pytest.mark.parametrize(
    ("size", "ascii"),
    [
        (SIZES[0], False), (SIZES[0], True), (SIZES[2], False),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((SIZES[1], False), (SIZES[1], True), (SIZES[2], True))),
    ],
)  # fmt: skip
def test_every_step_at_every_size(size: tuple[int, int], ascii: bool) -> None:
    words = (
        ("fashion-mnist", "60,000", "validation_fraction", "held out"),
        ("architecture", "parameters", "accuracy", "8x8x1" if size[0] > 80 else "", "to be trained", "resnet20-s1", "Chosen"),
        ("resnet8", "77,754", "times smaller", "than the 2 teachers"),
        ("mmkd", "gamma", "temperature", "1.0", "cross entropy"),
        ("device", "precision", "Processor", "Roughly needed", "threads"),
        ("name: my-run", "Distillation", "Memory", "rough guess", "Start", "Save as preset"),
    )
    draft = Draft.new()
    draft.add_teacher("resnet20")
    draft.add_teacher("resnet20")

    async def look() -> None:
        async with wizard(draft, size, ascii=ascii) as pilot:
            for number, expected in enumerate(words):
                await go(pilot, number)
                said = text(pilot.app)
                for word in expected:
                    assert word in said, (number, word)
                assert not ascii or said.isascii(), number

    run(look())


FIELDS: Sequence[tuple[int, tuple[str | int, ...], str, str]] = (
    (0, ("dataset", "validation_fraction"), "0.9", "out of range; it must be above 0 and at most 0.5"),
    (0, ("dataset", "train_images"), "5000", "1080 training images that are left"),
    (3, ("method", "temperature"), "0", "it must be above 0"),
    (3, ("method", "meta", "buffer_size"), "3", "holds no whole batch"),
    (3, ("train", "epochs"), "2.5", "is not a whole number"),
    (3, ("train", "milestones"), "5, 3", "must rise"),
    (3, ("train", "milestones"), "5, x", "'x' is not a whole number"),
    (3, ("train", "momentum"), "0", "nesterov needs a momentum above 0"),
    (3, ("evaluate", "every"), "", "is not a whole number"),
    (3, ("seed",), "-1", "at least 0"),
    (4, ("hardware", "device"), "gpu", "use auto, cpu, cuda or cuda:N"),
    (4, ("hardware", "threads"), "0", "at least 1"),
    (5, ("name",), "My run", "use 1 to 64 of a-z"),
)


@pytest.mark.parametrize("step", sorted({field[0] for field in FIELDS}))
def test_a_mistake_is_shown_beside_its_field(step: int) -> None:
    draft = Draft.of(tiny())

    async def look() -> None:
        async with wizard(draft, (100, 48)) as pilot:
            await go(pilot, step)
            for path, typed, said in (field[1:] for field in FIELDS if field[0] == step):
                before = draft.text(path)
                await retype(pilot, path, typed)
                assert said in problem_of(pilot, path), path
                mark = f"✖ {problem_of(pilot, path)[:20]}"
                await until(pilot, lambda mark=mark: mark in text(pilot.app))  # type: ignore[misc]
                assert "1 thing missing or wrong" in text(pilot.app), path
                assert f"{TITLES[step]}]✖" in text(pilot.app), path
                await retype(pilot, path, before)
                assert problem_of(pilot, path) == ""
                assert "ready to run" in text(pilot.app)

    run(look())


def test_back_keeps_everything() -> None:
    async def look() -> None:
        async with wizard() as pilot:
            draft = screen(pilot).draft
            await retype(pilot, ("dataset", "split_seed"), "x7")
            await go(pilot, 1)
            await pilot.press(*"vgg8", "enter", "enter")
            await go(pilot, 3)
            await retype(pilot, ("method", "alpha"), "1e")
            await go(pilot, 5)
            await go(pilot, 0)
            assert draft.text(("dataset", "split_seed")) == "x7"
            assert problem_of(pilot, ("dataset", "split_seed"))
            await go(pilot, 1)
            assert [t["arch"] for t in draft.teachers] == ["vgg8", "vgg8"]
            assert "vgg8-s1" in text(pilot.app)
            assert screen(pilot).steps[1].offers.filter.value == "vgg8"  # type: ignore[attr-defined]
            await go(pilot, 3)
            assert "1e" in text(pilot.app)

    run(look())


def test_keys_that_come_quicker_than_steps_are_shown_are_all_counted() -> None:
    async def look() -> None:
        async with wizard() as pilot:
            for presses in (["ctrl+n"] * 5, ["ctrl+o"] * 3, ["ctrl+n"], ["ctrl+n", "ctrl+n", "ctrl+n", "ctrl+o", "ctrl+o"]):
                at = screen(pilot)._at
                for key in presses:  # without a pause between two
                    pilot.app.post_message(events.Key(key, None))
                for key in presses:
                    at = min(max(at + (1 if key == "ctrl+n" else -1), 0), len(TITLES) - 1)
                await at_step(pilot, at)
                shown = [number for number, step in enumerate(screen(pilot).steps) if step.parent is not None and step.display]
                assert shown == [at]

    run(look())


@pytest.mark.parametrize("key", ["escape", "ctrl+q"])
def test_it_may_be_left_while_its_first_page_is_being_made(key: str) -> None:
    async def look() -> None:
        app = MmkdApp(runs_dir=Path.cwd() / "runs")
        async with app.run_test() as pilot:  # which raises what the app ends by
            await until(pilot, lambda: isinstance(app.screen, HomeScreen))
            wizard = WizardScreen(Draft.new())
            app.push_screen(wizard)
            app.post_message(events.Key(key, None))
            await until(pilot, lambda: wizard._closed)

    run(look())


def test_arrows_and_enter_go_from_setting_to_setting() -> None:
    async def look() -> None:
        async with wizard(Draft.of(tiny())) as pilot:
            await go(pilot, 4)
            at = []
            for key in ("enter", "enter", "down", "up"):
                await pilot.press(key)
                row = next(node for node in pilot.app.focused.ancestors if isinstance(node, SettingRow))  # type: ignore[union-attr]
                at.append(row.path[-1])
            assert at == ["precision", "compile", "threads", "compile"]

    run(look())


def test_every_method_can_be_chosen_by_keyboard_and_saved() -> None:
    async def look() -> None:
        async with wizard(Draft.of(tiny()), (100, 48)) as pilot:
            draft = screen(pilot).draft
            await go(pilot, 3)
            screen(pilot).steps[3].first.focus()
            for number, facts in enumerate(METHODS.values()):
                await pilot.press(*["down"] * min(number, 1), *["enter"] * min(number, 1))
                await pilot.pause()
                assert draft.method == facts.name
                if facts.name in ("kd", "ce"):
                    continue
                assert f"{facts.title}: its settings" in text(pilot.app)
                shown = {row.path[1] for row in screen(pilot).query(SettingRow) if row.path[0] == "method"}
                assert shown == METHOD_PARTS[facts.name].model_fields.keys() - {"name"}
                saved = draft.yaml()
                assert saved is not None
                assert parse_preset(saved, "saved").method.name == facts.name

    run(look())


def test_methods_are_chosen_and_keep_their_settings() -> None:
    async def look() -> None:
        async with wizard(Draft.of(tiny()), (100, 48)) as pilot:
            draft = screen(pilot).draft
            await go(pilot, 3)
            await retype(pilot, ("method", "beta"), "7")
            screen(pilot).steps[3].first.focus()
            kd = list(METHODS).index("kd")
            await pilot.press(*["down"] * kd, "enter")
            await pilot.pause()
            assert draft.method == "kd"
            said = text(pilot.app)
            assert "KD: its settings" in said
            assert "buffer_size" not in said
            assert "method kd takes 1 teacher and has 2" not in said  # that is said where teachers are chosen
            await go(pilot, 1)
            assert "method kd takes 1 teacher and has 2" in text(pilot.app)
            await go(pilot, 3)
            await pilot.press(*["up"] * kd, "enter")
            await pilot.pause()
            assert draft.text(("method", "beta")) == "7"
            assert "buffer_size" in text(pilot.app)
            await pilot.press(*["down"] * list(METHODS).index("ce"), "enter")
            await pilot.pause()
            assert draft.preset() is not None
            assert "temperature" not in text(pilot.app)

    run(look())


def test_teachers_from_the_store_the_catalogue_and_a_file(tmp_path: Path) -> None:
    stored(paths.teacher_store(), quickstart())
    file = tmp_path / "w.pth"
    file.write_bytes(b"weights")

    async def look() -> None:
        draft = Draft.new()
        draft.put(("dataset", "validation_fraction"), "0.2")
        draft.put(("hardware", "precision"), "fp32")  # as the stored ones were trained
        async with wizard(draft) as pilot:
            await go(pilot, 1)
            said = text(pilot.app)
            assert "97.5 %" in said
            assert "store: 25 epochs" in said
            await pilot.press(*"store", "enter", "enter")  # the second time, it is there already
            assert len(draft.teachers) == 1
            assert "97.5 %, in the store" in text(pilot.app)
            await pilot.press("ctrl+u", *"vgg8", "enter", "ctrl+u")
            assert draft.teachers[1]["arch"] == "vgg8"
            assert draft.teachers[1]["train"]["epochs"] == 25  # as the one before
            await pilot.press(*"file", "enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, TeacherScreen))
            await pilot.press("ctrl+s")
            await pilot.pause()
            where = ("teachers", 2, "checkpoint")
            assert problem_of(pilot, where)
            await retype(pilot, ("teachers", 2, "arch"), "resnet9")
            assert "did you mean" in problem_of(pilot, ("teachers", 2, "arch"))
            await retype(pilot, where, "none.pth")
            await pilot.press("ctrl+s")
            await pilot.pause()
            assert "there is no file" in problem_of(pilot, where)
            await retype(pilot, where, "w.pth")
            await pilot.press("shift+tab", "ctrl+u", *"resnet14", "ctrl+s")
            await at_step(pilot, 1)
            given = TeacherPart(arch="resnet14", checkpoint=str(file))
            assert draft.teachers[2] == given.model_dump()
            assert "w.pth" in text(pilot.app)
            await pilot.press("tab", "down", "d")
            await pilot.pause()
            assert [t["arch"] for t in draft.teachers] == [draft.teachers[0]["arch"], "resnet14"]
            assert draft.problems() == []
            for key in ("escape", "ctrl+c", "ctrl+q"):
                await pilot.press("enter")
                await until(pilot, lambda: isinstance(pilot.app.screen, TeacherScreen))
                await pilot.press(key)
                await at_step(pilot, 1)

    run(look())


def test_networks_of_the_libraries_are_chosen_by_typing_their_names() -> None:
    async def look() -> None:
        draft = Draft.new()
        async with wizard(draft) as pilot:
            await go(pilot, 1)
            assert "torchvision:" not in text(pilot.app)  # eighty of them: only where something is typed
            await pilot.press(*(_key(c) for c in "torchvision:resnet34"), "enter", "ctrl+u")
            await pilot.press(*(_key(c) for c in "timm:vit_tiny_patch16_224"))
            await pilot.pause()
            assert "?" in text(pilot.app)  # nobody knows its size yet
            await pilot.press("enter", "ctrl+u")
            assert [t["arch"] for t in draft.teachers] == ["torchvision:resnet34", "timm:vit_tiny_patch16_224"]
            await go(pilot, 2)
            await pilot.press(*(_key(c) for c in "timm:resnet18"), "enter", "ctrl+u")
            assert draft.student == "timm:resnet18"
            await go(pilot, 5)
            said = text(pilot.app)
            assert "timm:resnet18" in said
            assert draft.problems() == []
            assert load_preset(_written(Path("p.yaml"), draft.yaml() or "")) == draft.preset()

    run(look())


def settings(pilot: Pilot[str]) -> set[str]:
    """The names of the settings that a dialog offers."""
    rows = pilot.app.screen.query(SettingRow)
    return {str(row.path[-1]) for row in rows if all(node.display for node in row.ancestors_with_self)}


def changed(teacher: TeacherPart, *answers: tuple[str, str], offered: set[str]) -> TeacherPart:
    """What becomes of a teacher by settings that are typed into its dialog, which offers `offered` then."""
    draft = Draft.of(tiny())
    draft.data["teachers"] = (teacher.model_dump(), *draft.teachers)
    answer: list[Draft | None] = []

    async def look() -> None:
        app: App[None] = App()
        async with app.run_test(size=(100, 60)) as pilot:
            app.push_screen(TeacherScreen(draft, 0, "Change a teacher"), answer.append)
            await pilot.pause()
            for name, value in answers:
                editor = next(row.editor for row in app.screen.query(SettingRow) if row.path[-1] == name)
                editor.focus()
                if isinstance(editor, Input):
                    editor.value = value
                else:
                    await pilot.press(*value.split())
                await pilot.pause()
            assert settings(pilot) == offered
            await pilot.press("ctrl+s")
            await until(pilot, lambda: bool(answer))

    run(look())
    assert answer[0] is not None
    preset = answer[0].preset()
    assert preset is not None
    assert parse_preset(answer[0].yaml() or "", "saved") == preset
    return preset.teachers[0]


RECIPE = {"seed", *TrainPart.model_fields}
SHUFFLENET = TeacherPart(arch="torchvision:shufflenet_v2_x0_5")


def test_a_librarys_network_may_be_a_checkpoints(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"weights")
    typed = (("arch", "timm:vit_tiny_patch16_224"), ("features", "blocks.3"), ("checkpoint", file.name))
    now = changed(SHUFFLENET, *typed, offered={"arch", "checkpoint", "features"})
    assert now == TeacherPart(arch="timm:vit_tiny_patch16_224", checkpoint=str(file), features="blocks.3")
    assert changed(now, ("checkpoint", ""), offered={"arch", "checkpoint", "pretrained", "features", *RECIPE}) == TeacherPart(
        arch=now.arch, features=now.features
    )


def test_a_librarys_network_may_begin_with_its_weights() -> None:
    offered = {"arch", "checkpoint", "pretrained", "features"}
    further = SHUFFLENET.model_copy(update={"pretrained": True, "train": TrainPart()})
    assert changed(SHUFFLENET, ("pretrained", "right"), offered=offered | RECIPE) == further
    published = SHUFFLENET.model_copy(update={"pretrained": True})
    assert changed(SHUFFLENET, ("pretrained", "right down right"), offered=offered) == published  # train: null
    assert changed(published, offered=offered) == published


def test_a_home_that_is_not_there_is_a_file_that_is_not_there() -> None:
    draft = Draft.of(tiny())
    draft.add_checkpoint("resnet8", "~no-such-user/w.pth")
    draft.choose_dataset("imagefolder")
    draft.put(("dataset", "path"), "~no-such-user/pictures")

    async def look() -> None:
        async with wizard(draft) as pilot:
            for number in range(6):
                await go(pilot, number)
            await pilot.press("ctrl+r")
            await until(pilot, lambda: any("there is no folder" in note.message for note in pilot.app._notifications))

    run(look())


def test_names_and_numbers_are_whole_where_there_is_room() -> None:
    async def look() -> None:
        async with wizard(size=SIZES[2]) as pilot:
            screen(pilot).steps[0].query_one("#datasets", Table).point("imagenet")
            await until(pilot, lambda: "1,281,167" in text(pilot.app))
            assert "224x224x3" in text(pilot.app)
            await go(pilot, 1)
            assert re.search(r"339,7\d\d,706", text(pilot.app))
            screen(pilot).steps[1].offers.filter.value = "shufflenet_v2_x0"  # type: ignore[attr-defined]
            await until(pilot, lambda: " torchvision:shufflenet_v2_x0_5 " in text(pilot.app))

    run(look())


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (100, 30), (120, 36)])
def test_seeds_tell_networks_of_one_architecture_apart(size: tuple[int, int]) -> None:
    stored(paths.teacher_store(), quickstart())

    async def look() -> None:
        async with wizard(size=size) as pilot:
            await go(pilot, 1)
            rows = [line for line in text(pilot.app).splitlines() if "97.5 %" in line]
            assert len(rows) > 1
            assert all(re.search(r" s\d  ", row) for row in rows), rows

    run(look())


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "no training in the store to correct it by"),
        (9.0, "no training in the store was long enough, on a device of this kind, to correct it by"),
        (90.0, "corrected by 3 trainings in the store"),
    ],
)
def test_what_corrects_the_estimate_is_told(seconds: float | None, said: str) -> None:
    if seconds is not None:
        stored(paths.teacher_store(), quickstart(), seconds=seconds)

    async def look() -> None:
        async with wizard(Draft.of(quickstart())) as pilot:
            bench = screen(pilot).bench
            await until(pilot, lambda: any(line.endswith(f"; {said}.") for line in guess_lines(quickstart(), bench)))

    run(look())


def test_a_student_as_large_as_its_teacher() -> None:
    async def look() -> None:
        draft = Draft.new()
        draft.add_teacher(draft.student)
        async with wizard(draft, size=(160, 48)) as pilot:
            await go(pilot, 2)
            await until(pilot, lambda: "as large as the teacher (mean" in text(pilot.app))

    run(look())


def test_in_the_smallest_terminal_students_are_told_by_their_whole_names() -> None:
    async def look() -> None:
        async with wizard(Draft.of(tiny()), size=(60, 16)) as pilot:
            await go(pilot, 2)
            await pilot.press(*"resnet8")
            await until(pilot, lambda: "resnet8x4 " in text(pilot.app))
            (row,) = (line for line in text(pilot.app).splitlines() if "resnet8x4 " in line)
            assert "times LARGER" in row

    run(look())


def test_in_the_smallest_terminal_all_steps_are_at_the_top() -> None:
    async def look() -> None:
        async with wizard(size=(60, 16)) as pilot:
            tabs = text(pilot.app).splitlines()[1]
            assert "[1 Data set]" in tabs
            assert tabs.split()[-5:] == ["2", "3", "4", "5", "6"]
            await pilot.resize_terminal(80, 24)
            await until(pilot, lambda: "6 Review" in text(pilot.app))

    run(look())


def test_another_split_is_said_to_be_one() -> None:
    stored(paths.teacher_store(), quickstart())

    async def look() -> None:
        async with wizard(size=SIZES[0]) as pilot:
            await go(pilot, 1)
            await until(pilot, lambda: "other split: 25 epochs" in text(pilot.app))
            await pilot.press("enter")
            assert "to be trained, 25 epochs" in text(pilot.app)

    run(look())


@pytest.mark.parametrize(
    ("change", "other"),
    [("path=b", "folder"), ("size=64", "size"), ("split_seed=1", "split"), ("shuffle=shards", "settings")],
)
def test_what_is_other_about_a_stored_network(change: str, other: str, tmp_path: Path) -> None:
    asked = tiny("dataset={name: webdataset, path: a, train_images: 160}")
    stored_one = tiny("dataset={name: webdataset, path: a, train_images: 160}", f"dataset.{change}").anchored(tmp_path)
    network = Network("key", "resnet8", stored_one.dataset, 0, TrainPart(), None, None, "")
    assert other_than(asked, network) == f"other {other}"
    assert other_than(None, network) == "store"


def test_the_filter_filters_as_it_is_typed() -> None:
    async def look() -> None:
        async with wizard() as pilot:
            await go(pilot, 2)
            await pilot.press(*"wrn")
            await pilot.pause()
            said = text(pilot.app)
            assert "wrn_40_2" in said
            assert "vgg13" not in said
            await pilot.press(*"_99")
            await pilot.pause()
            assert "nothing fits the filter" in text(pilot.app)
            await pilot.press("enter", "ctrl+u", "pagedown", "pageup", "down", "enter")
            await pilot.pause()
            assert screen(pilot).draft.student == "vgg11"
            assert "[3 Student]" in text(pilot.app)

    run(look())


@pytest.mark.parametrize(
    ("step", "chosen", "about"), [(0, "imagenet", "ImageNet (ILSVRC 2012)"), (2, "wrn_40_2", ""), (3, "fitnet", "")]
)
def test_enter_keeps_what_was_chosen_which_is_in_sight(step: int, chosen: str, about: str) -> None:
    draft = Draft.of(tiny("dataset.name=imagenet", "student.arch=wrn_40_2", "method={name: fitnet}", "teachers=[{arch: vgg8}]"))

    async def look() -> None:
        async with wizard(draft, (80, 24)) as pilot:
            await go(pilot, step)
            await until(pilot, lambda: f"● {chosen} " in text(pilot.app) and about in text(pilot.app))
            await pilot.press("enter")
            await pilot.pause()
            assert not draft.changed

    run(look())


def test_another_data_set_counts_anew() -> None:
    async def look() -> None:
        async with wizard(Draft.of(tiny())) as pilot:
            await pilot.press("down", "enter")
            await pilot.pause()
            assert screen(pilot).draft.dataset == "fashion-mnist"
            await pilot.press("enter")
            await at_step(pilot, 1)
            assert "28x28x1" in text(pilot.app)

    run(look())


def test_a_folder_of_ones_own_pictures(tmp_path: Path) -> None:
    sets.pictures(tmp_path / "own", {"train": 40, "test": 3}, classes=3)

    async def look() -> None:
        async with wizard(Draft.of(tiny("dataset.train_images=null")), (120, 60)) as pilot:
            screen(pilot).steps[0].query_one("#datasets", Table).point("imagefolder")
            await pilot.press("enter")
            await pilot.pause()
            assert screen(pilot).draft.dataset == "imagefolder"
            assert "needs a folder" in problem_of(pilot, ("dataset", "path"))
            await retype(pilot, ("dataset", "path"), str(tmp_path / "none"))
            assert problem_of(pilot, ("dataset", "path")).startswith("there is no folder")
            assert "Data set]✖" in text(pilot.app)
            await go(pilot, 5)
            assert "there is no folder" in text(pilot.app).replace("\n", " ")
            await go(pilot, 0)
            await retype(pilot, ("dataset", "path"), str(tmp_path / "own"))
            assert not problem_of(pilot, ("dataset", "path"))
            assert "Data set]✓" in text(pilot.app)
            assert "there is no folder" not in text(pilot.app)
            assert screen(pilot).bench.facts.train_images == 120
            await go(pilot, 2)
            assert "224x224x3" in text(pilot.app)
            assert "3 classes" in text(pilot.app)
            await go(pilot, 0)
            screen(pilot).steps[0].query_one("#datasets", Table).point("digits")
            screen(pilot).steps[0].first.focus()
            await pilot.press("enter")
            await pilot.pause()
            assert screen(pilot).draft.data["dataset"]["path"] is None
            assert not screen(pilot).draft.problems()

    run(look())


def test_a_folder_is_typed_in_sight_at_the_smallest_usual_size() -> None:
    async def look() -> None:
        async with wizard(Draft.of(tiny()), SIZES[0]) as pilot:
            await pilot.press("end", "up", "enter", "tab")
            await pilot.press(*"my-pictures".replace("-", ""))
            await pilot.pause()
            said = text(pilot.app)
            assert screen(pilot).draft.value(("dataset", "path")) == "mypictures"
            assert "path" in said
            assert "mypictures" in said
            assert "there is no folder" in said
            for path in (("dataset", "size"), ("dataset", "split_seed")):
                await to_field(pilot, path)
                await until(pilot, lambda path=path: path[-1] in text(pilot.app))  # type: ignore[misc]

    run(look())


def test_what_is_missing_in_one_step_hides_nothing_in_another() -> None:
    async def look() -> None:
        draft = Draft.new()
        draft.choose_dataset("imagefolder")  # whose path is yet to be typed
        async with wizard(draft) as pilot:
            await go(pilot, 1)
            assert "Teachers]✖" in text(pilot.app)
            assert "at least 2 teachers" in text(pilot.app)
            assert "2 things missing or wrong" in text(pilot.app)

    run(look())


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
def test_a_network_that_timm_does_not_have_is_told_before_a_run_asks_for_it() -> None:
    async def look() -> None:
        draft = Draft.of(tiny())
        draft.put(("student", "arch"), "timm:resnet1")
        async with wizard(draft) as pilot:
            await go(pilot, 5)
            assert "did you mean timm:resnet" in " ".join(text(pilot.app).split())
            await go(pilot, 1)
            screen(pilot).steps[1].offers.filter.value = "timm:resnet1"  # type: ignore[attr-defined]
            await until(pilot, lambda: "nothing fits the filter" in text(pilot.app))
            await pilot.press("8")
            await until(pilot, lambda: "timm:resnet18 " in text(pilot.app))

    run(look())


def test_a_preset_that_is_saved_elsewhere_names_the_same_folder(tmp_path: Path) -> None:
    sets.pictures(tmp_path / "shapes", {"train": 40, "test": 3}, classes=2)
    draft = Draft.of(tiny("dataset.train_images=null"))
    draft.choose_dataset("imagefolder")
    draft.put(("dataset", "path"), "shapes")
    (tmp_path / "other").mkdir()

    async def look() -> None:
        async with wizard(draft) as pilot:
            for name, path in (("here.yaml", "shapes"), ("other/there.yaml", str(tmp_path / "shapes"))):
                await pilot.press("ctrl+s")
                await until(pilot, lambda: isinstance(pilot.app.screen, AskText))
                await pilot.press("ctrl+u", *(_key(character) for character in name), "enter")
                await until(pilot, (tmp_path / name).exists)
                assert load_preset(tmp_path / name).dataset.path == path
                await at_step(pilot, 0)

    run(look())


@pytest.mark.parametrize("key", ["escape", "ctrl+q", "ctrl+c"])
def test_a_changed_draft_is_not_thrown_away_unasked(key: str) -> None:
    async def look() -> None:
        async with wizard() as pilot:
            await pilot.press("down", "enter")
            await pilot.press(key)
            await until(pilot, lambda: isinstance(pilot.app.screen, Ask))
            await pilot.press("enter")
            await at_step(pilot, 0)
            await pilot.press(key)
            await until(pilot, lambda: isinstance(pilot.app.screen, Ask))
            await pilot.press("right", "enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen))

    run(look())


def test_an_unchanged_draft_is_left_at_once() -> None:
    async def look() -> None:
        async with wizard(Draft.of(tiny())) as pilot:
            await go(pilot, 5)
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen))

    run(look())


def test_a_file_is_not_replaced_unasked(tmp_path: Path) -> None:
    target = tmp_path / "tiny.yaml"
    target.write_text("before")

    async def look() -> None:
        async with wizard(Draft.of(tiny())) as pilot:
            await pilot.press("ctrl+s")
            await until(pilot, lambda: isinstance(pilot.app.screen, AskText))
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, Ask))
            await pilot.press("enter")  # keep it: asked again for a name
            await until(pilot, lambda: isinstance(pilot.app.screen, AskText))
            assert target.read_text() == "before"
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, Ask))
            await pilot.press("right", "enter")
            await until(pilot, lambda: target.read_text() != "before")
            assert load_preset(target) == tiny()

    run(look())


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    async def look() -> None:
        async with wizard(Draft.of(tiny())) as pilot:
            await pilot.press("ctrl+s")
            await until(pilot, lambda: isinstance(pilot.app.screen, AskText))
            await pilot.press("ctrl+u", *"a.txt", "enter")
            await pilot.pause()
            assert "ends in .yaml" in text(pilot.app)
            await pilot.press("ctrl+u", "slash", *"proc", "slash", *"x", "enter")
            await until(pilot, lambda: any("cannot be written" in note.message for note in pilot.app._notifications))

    run(look())


def test_start_and_save_go_to_the_mistake_instead() -> None:
    async def look() -> None:
        async with wizard() as pilot:
            for key in ("ctrl+r", "ctrl+s", "f5"):
                await go(pilot, 3)
                await pilot.press(key)
                await at_step(pilot, 1)
                assert "at least 2 teachers" in text(pilot.app)

    run(look())


def test_a_run_that_has_started_takes_the_wizards_place_whatever_was_opened_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = asyncio.Event()

    async def slow(*_: object) -> Path:
        await ready.wait()
        return tmp_path

    monkeypatch.setattr("mmkd_tui.wizard.screen.start_run", slow)

    async def look() -> None:
        async with wizard(Draft.of(tiny())) as pilot:
            await pilot.press("ctrl+r", "f1")
            await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))
            ready.set()
            await until(pilot, lambda: isinstance(pilot.app.screen, DashboardScreen))
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(pilot.app.screen, HomeScreen))

    run(look())


def test_buttons_and_tabs_work_with_the_mouse() -> None:
    async def look() -> None:
        async with wizard(Draft.of(tiny())) as pilot:
            await pilot.click("#next")
            await at_step(pilot, 1)
            await pilot.click("#back")
            await at_step(pilot, 0)
            await pilot.click("StepTab:last-of-type")
            await at_step(pilot, 5)
            await pilot.click("#save")
            await until(pilot, lambda: isinstance(pilot.app.screen, AskText))

    run(look())


@pytest.mark.parametrize("size", [SIZES[0], pytest.param(SIZES[1], marks=pytest.mark.slow), SIZES[2]])
def test_hostile_texts_are_shown_as_they_are(size: tuple[int, int], tmp_path: Path) -> None:
    folder = tmp_path / "[/red]x[bold]"
    folder.mkdir(parents=True)
    file = folder / f"{HOSTILE.replace('/', '')}.pth"
    file.write_bytes(b"x")
    preset = load_preset(_written(folder / "p.yaml", dump_preset(tiny(f"description={HOSTILE!r}"))))
    draft = Draft.of(preset, folder)
    draft.add_checkpoint("resnet8", str(file))
    hostile = draft.preset()

    async def look() -> None:
        async with wizard(draft, size) as pilot:
            for number in range(6):
                await go(pilot, number)
                assert "\x1b" not in text(pilot.app)
            await go(pilot, 1)
            assert "[red]x[bold]\\x1b[31m.pth" in text(pilot.app)
            await pilot.press("tab", "end", "enter")
            await until(pilot, lambda: isinstance(pilot.app.screen, TeacherScreen))
            assert "\x1b" not in text(pilot.app)
            await pilot.press("escape")
            await go(pilot, 5)
            assert SHOWN in text(pilot.app)
            assert screen(pilot).draft.preset() == hostile  # showing it has not changed it
            await pilot.press("ctrl+s", "ctrl+u", "escape")

    run(look())


def _written(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def test_targets(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    assert target_of(" x ") == tmp_path / "x.yaml"
    for name in ("", str(tmp_path), "x.txt", "pipe.yaml", "a\0b", "~nobody-here/x.yaml"):
        assert wrong_target(name), name
    assert wrong_target("new/x.yml") == ""
