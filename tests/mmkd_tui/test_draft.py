"""The draft without a terminal: every preset goes through it unharmed, mistakes stand at their fields, nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.presets import tiny

from engine.preset import EvaluatePart, HardwarePart, MetaPart, MmkdPart, NonFinitePart, Preset, TrainPart
from engine.preset_yaml import dump_preset, list_presets, parse_preset
from engine.yaml_lines import KeyPath
from mmkd_tui.draft import METHOD_PARTS, Draft, Problem, missing_checkpoint

HOSTILE = "[/red]x[bold]\x1b[31m"


def ready() -> Draft:
    """The wizard's first draft, with two teachers."""
    draft = Draft.new()
    draft.add_teacher("resnet20")
    draft.add_teacher("vgg8")
    return draft


def at(draft: Draft, path: KeyPath) -> str:
    """What is said beside a field."""
    return next((problem.beside for problem in draft.problems() if problem.path == path), "")


@pytest.mark.parametrize(
    "preset",
    [
        *(e.preset for e in list_presets() if e.preset),
        tiny(),
        tiny("method={name: ce}"),
        tiny("teacher_cache={views: 3}"),
        tiny("checkpoints={every: 60, keep: 5}"),
    ],
)
def test_a_preset_goes_through_unharmed(preset: Preset) -> None:
    draft = Draft.of(preset)
    assert draft.problems() == []
    assert draft.preset() == preset
    assert not draft.changed
    text = draft.yaml()
    assert text is not None
    assert parse_preset(text, "draft") == preset


def test_what_is_saved_says_only_what_differs() -> None:
    draft = ready()
    draft.put(("train", "epochs"), "12")
    assert draft.yaml() == (
        "name: my-run\ndataset:\n  name: digits\nteachers:\n- arch: resnet20\n- arch: vgg8\nstudent:\n  arch: resnet8\n"
        "method:\n  name: mmkd\ntrain:\n  epochs: 12\n"
    )


@pytest.mark.parametrize("brief", [False, True])
@pytest.mark.parametrize("method", METHOD_PARTS)
def test_brief_yaml_reads_back_equal(method: str, brief: bool) -> None:
    teachers = {"kd": "[{arch: vgg8}]", "ce": "[]"}.get(method, "[{arch: vgg8}, {arch: vgg8, seed: 1, train: {}}]")
    preset = tiny(f"method={{name: {method}}}", f"teachers={teachers}", "description='null'", "hardware.threads=3")
    assert parse_preset(dump_preset(preset, brief=brief), "x") == preset


def test_the_first_draft_lacks_only_teachers() -> None:
    draft = Draft.new()
    assert [problem.path for problem in draft.problems()] == [("teachers",)]
    assert draft.yaml() is None
    assert not draft.changed


FIELDS: list[tuple[KeyPath, Any]] = [
    *((("train", name), f) for name, f in TrainPart.model_fields.items()),
    *((("evaluate", name), f) for name, f in EvaluatePart.model_fields.items()),
    *((("hardware", name), f) for name, f in HardwarePart.model_fields.items()),
    *((("non_finite", name), f) for name, f in NonFinitePart.model_fields.items()),
    *((("method", name), f) for name, f in MmkdPart.model_fields.items() if name not in ("name", "meta")),
    *((("method", "meta", name), f) for name, f in MetaPart.model_fields.items()),
    *((("dataset", name), None) for name in ("validation_fraction", "train_images", "split_seed")),
    (("seed",), None),
    (("name",), None),
    (("description",), None),
    (("teachers", 0, "arch"), None),
    (("teachers", 0, "seed"), None),
]


@pytest.mark.parametrize("path", [path for path, _ in FIELDS], ids=lambda path: ".".join(map(str, path)))
def test_every_field_takes_back_what_it_shows(path: KeyPath) -> None:
    draft = ready()
    before = draft.preset()
    draft.put(path, draft.text(path))
    assert draft.preset() == before


@pytest.mark.parametrize("path", [path for path, _ in FIELDS if path != ("description",)], ids=lambda p: ".".join(map(str, p)))
def test_a_mistake_stands_at_its_field(path: KeyPath) -> None:
    draft = ready()
    draft.put(path, "no such thing!")
    assert at(draft, path) or at(draft, (*path, 0))
    assert not at(draft, path).startswith(str(path[0]) + ".")
    assert draft.text(path) == "no such thing!"
    assert draft.preset() is None


@pytest.mark.parametrize(
    ("path", "typed", "value"),
    [
        (("train", "epochs"), " 12 ", 12),
        (("train", "lr"), "5e-4", 5e-4),
        (("train", "lr"), "1", 1),
        (("train", "nesterov"), "false", False),
        (("train", "milestones"), "3, 5", (3, 5)),
        (("train", "milestones"), "[3,5]", (3, 5)),
        (("train", "milestones"), "3", (3,)),
        (("train", "milestones"), "[]", ()),
        (("train", "milestones"), "", None),
        (("hardware", "threads"), "", None),
        (("hardware", "threads"), "null", None),
        (("description",), "12", "12"),
        (("description",), "", ""),
        (("name",), "7", "7"),
        (("evaluate", "select_on"), "test", "test"),
    ],
)
def test_what_is_typed_becomes_its_kind_of_value(path: KeyPath, typed: str, value: object) -> None:
    draft = ready()
    draft.put(path, typed)
    assert draft.value(path) == value or value is None
    assert draft.problems() == []
    assert draft.text(path) == typed


@pytest.mark.parametrize("typed", ["9" * 299, "9" * 5000, "1e999", "-1", "nan", ".inf", "0x", "{", "- -", "\x1b[31m", "", "null"])
def test_no_typed_text_breaks_it(typed: str) -> None:
    for path in (("train", "epochs"), ("train", "lr"), ("train", "milestones"), ("name",)):
        draft = ready()
        draft.put(path, typed)
        for problem in draft.problems():
            assert "\x1b" not in problem.sentence


def test_methods_keep_their_settings() -> None:
    draft = ready()
    draft.put(("method", "beta"), "1e")
    draft.choose_method("aver")
    assert draft.problems() == []
    draft.put(("method", "alpha"), "2")
    draft.put(("method", "name"), "mmkd")
    assert draft.text(("method", "beta")) == "1e"
    assert draft.text(("method", "alpha")) == "1.0"
    draft.choose_method("aver")
    assert draft.value(("method", "alpha")) == 2


def test_teachers_come_and_go() -> None:
    draft = Draft.new()
    assert [draft.add_teacher("resnet20", recipe=TrainPart(epochs=3)), draft.add_teacher("resnet20")] == [0, 1]
    assert [(t["seed"], t["train"]["epochs"]) for t in draft.teachers] == [(0, 3), (1, 3)]
    assert draft.is_teacher(1, "resnet20", 1, TrainPart(epochs=3))
    assert not draft.is_teacher(1, "resnet20", 1, TrainPart())
    draft.remove_teacher(0)
    draft.add_teacher("resnet20")
    assert [t["seed"] for t in draft.teachers] == [1, 0]
    draft.add_teacher("resnet20", seed=0, recipe=TrainPart(epochs=3))
    assert "the same one twice" in at(draft, ("teachers",))


def test_a_copy_is_its_own() -> None:
    draft = ready()
    other = draft.copy()
    other.spell_recipe(0)
    other.put(("teachers", 0, "train", "epochs"), "7")
    assert draft.value(("teachers", 0, "train")) is None
    assert other.value(("teachers", 0, "train", "epochs")) == 7


def test_a_spelt_out_default_recipe_is_the_default(tmp_path: Path) -> None:
    draft = ready()
    before = draft.preset()
    draft.spell_recipe(0)
    assert draft.preset() == before


def test_weights_that_no_library_has_are_told_at_their_field() -> None:
    draft = ready()
    draft.change_teacher(0, pretrained=True)
    assert "only torchvision: and timm: networks come with weights" in at(draft, ("teachers", 0, "pretrained"))


def test_checkpoints(tmp_path: Path) -> None:
    file = tmp_path / f"{HOSTILE.replace('/', '')}.pth"
    file.write_bytes(b"x")
    preset = parse_preset(dump_preset(tiny()), "x").model_copy(
        update={"teachers": (*tiny().teachers, tiny().teachers[0].model_copy(update={"checkpoint": file.name, "train": None}))}
    )
    draft = Draft.of(preset, tmp_path)
    assert draft.teachers[2]["checkpoint"] == str(file)
    assert draft.problems() == []
    file.unlink()
    assert "there is no file" in at(draft, ("teachers", 2, "checkpoint"))
    assert "\x1b" not in at(draft, ("teachers", 2, "checkpoint"))
    assert missing_checkpoint(draft, 0) is None


def test_a_path_that_no_file_can_have_is_one_that_is_not_there() -> None:
    draft = ready()
    draft.add_checkpoint("resnet20", "x" * 300)
    assert "there is no file" in at(draft, ("teachers", 2, "checkpoint"))


def test_what_the_data_set_does_not_have() -> None:
    draft = ready()
    draft.put(("dataset", "train_images"), "1081")
    assert "1080" in at(draft, ("dataset", "train_images"))
    draft.put(("dataset", "train_images"), "63")
    assert "63 training images" in at(draft, ("train", "batch_size"))
    assert "63 training images" in at(draft, ("teachers", 0, "train", "batch_size"))


def test_changed_until_saved() -> None:
    draft = ready()
    assert draft.changed
    draft.mark_saved()
    assert not draft.changed
    draft.put(("name",), "other")
    assert draft.changed
    draft.put(("name",), "my-run")
    assert not draft.changed


def test_a_problem_without_a_colon_is_said_whole() -> None:
    assert Problem((), "something").beside == "something"


def test_what_is_said_of_pictures_in_files_goes_with_them() -> None:
    draft = Draft.new()
    draft.choose_dataset("imagefolder")
    for name, value in (("path", "pictures"), ("size", "64"), ("resize", "64")):
        draft.put(("dataset", name), value)
    assert draft.value(("dataset", "resize")) == 64
    draft.choose_dataset("digits")
    assert [draft.value(("dataset", name)) for name in ("path", "size", "resize")] == [None] * 3
