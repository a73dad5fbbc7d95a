"""Presets as files: YAML 1.2 and nothing more, overrides, dumps that read back the same, the schema, the shipped ones."""

from __future__ import annotations

import json
import math
import os
import re
import string
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from engine import preset as models
from engine.catalog import ARCHITECTURES, DATASETS
from engine.errors import PresetError, UserError
from engine.preset import Preset
from engine.preset_errors import EXAMPLES
from engine.preset_yaml import (
    dump_preset,
    find_preset,
    list_presets,
    load_preset,
    own_presets,
    parse_preset,
    preset_schema,
    presets_dir,
)
from engine.text import one_line, plain
from engine.yaml_lines import YamlError, read_yaml

SMALL = """\
name: small
dataset: {name: digits}
teachers:
  - {arch: resnet20, seed: 0}
  - {arch: resnet20, seed: 1}
student: {arch: resnet8}
"""


def problems(*overrides: str, text: str = SMALL) -> tuple[str, ...]:
    with pytest.raises(PresetError) as caught:
        parse_preset(text, "f.yaml", overrides)
    return caught.value.problems


def harmless(line: str) -> bool:
    """One line, and nothing in it that a terminal would obey."""
    return plain(line) == line


class WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


# The reader


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1.", 1.0), (".5", 0.5), ("-2.5E+1", -25.0), ("1e3", 1000.0), (".inf", math.inf), ("-.Inf", -math.inf),
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("+7", 7),
        ("null", None), ("~", None), ("", None), ("Null", None), ("true", True), ("False", False), ("TRUE", True),
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("y", "y"), ("12:30", "12:30"), ("1_000", "1_000"),
        ("0b1", "0b1"),
        ("2026-01-01", "2026-01-01"), ("=", "="), ("0o9", "0o9"), ("-0x1", "-0x1"), ("1e", "1e"), (".", "."), ("nUll", "nUll"),
        ('"1"', "1"), ("'true'", "true"), ("[1, [a]]", (1, ("a",))), ("{a: {b: 1}}", {"a": {"b": 1}}), ("|\n a\n b", "a\nb"),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = read_yaml(f"key: {text}").data["key"]
    assert found == value
    assert type(found) is type(value)


def test_nan_is_read() -> None:
    assert math.isnan(read_yaml("a: .nan").data["a"])


def test_lines_of_keys_and_values() -> None:
    document = read_yaml("# comment\na:\n  1\nb:\n  - x\n  - {c: 2}\n")
    assert document.keys == {("a",): 2, ("b",): 4, ("b", 1, "c"): 6}
    assert document.values == {(): 2, ("a",): 3, ("b",): 4, ("b", 0): 5, ("b", 1): 6, ("b", 1, "c"): 6}


def test_several_mistakes_of_the_reader_are_all_reported() -> None:
    with pytest.raises(YamlError) as caught:
        read_yaml("a: 1\na: 2\nb: !x 3\nc: [")
    assert [line for line, _ in caught.value.problems] == [2, 3, 4]


@given(st.text(alphabet=st.sampled_from("ab: -[]{}\"'\\U8f&*!<|>%@#,?~\n\t\r\x85\u2028\x1b"), max_size=60))
@settings(max_examples=500, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    found: tuple[tuple[int, str], ...] = ()
    try:
        read_yaml(text)
    except YamlError as error:
        found = error.problems
    assert all(1 <= line <= len(text) + 2 and harmless(sentence) for line, sentence in found)


@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner),
    )
)
@settings(max_examples=80, deadline=None)
def test_any_yaml_gives_printable_lines(data: Any) -> None:
    whole = {"name": "x", "train": data, "method": data, "teachers": [data, data]}
    text = yaml.dump(whole, Dumper=WithoutAliases, allow_unicode=True)
    for problem in problems(text=text):
        assert harmless(problem)
        assert problem.startswith(("f.yaml:", "and "))


def test_many_mistakes_are_cut() -> None:
    found = problems(text=SMALL + "".join(f"key{number}: 1\n" for number in range(300)))
    assert len(found) == 51
    assert found[-1] == "and 250 more mistakes"


# Mistakes of several lines, in the file's order


def test_a_line_for_each_mistake_in_the_order_of_the_file_and_then_what_it_lacks() -> None:
    found = problems(text="train: {epochs: x}\nseed: -1\nteachers:\n  - {arch: q}\nname: a\nextra: 1\n")
    assert [line.split(": ")[:2] for line in found] == [
        ["f.yaml:1", "train.epochs"], ["f.yaml:2", "seed"], ["f.yaml:4", "teachers.0.arch"], ["f.yaml:6", "extra"],
        ["f.yaml:1", "dataset"], ["f.yaml:1", "student"],
    ]  # fmt: skip


# Overrides


def test_overrides() -> None:
    preset = parse_preset(
        SMALL, "f.yaml",
        ["train.epochs=3", "teachers.*.train.epochs=1", "teachers.1.train.epochs=5", "method.meta.every=2",
         "train.milestones=[1, 2]",
         "hardware={device: cpu}", "dataset.train_images=", "train.milestones.1=0x3", "description=a=b"],
    )  # fmt: skip
    assert preset.train.epochs == 3
    assert [teacher.recipe.epochs for teacher in preset.teachers] == [1, 5]
    assert isinstance(preset.method, models.MmkdPart)
    assert preset.method.meta.every == 2
    assert preset.train.milestones == (1, 3)
    assert preset.hardware.device == "cpu"
    assert preset.dataset.train_images is None
    assert preset.description == "a=b"
    assert parse_preset(SMALL, "f.yaml").train.epochs == 240


def test_overrides_replace_a_null_part() -> None:
    text = SMALL.replace("seed: 1", "seed: 1, train: null")
    assert parse_preset(text, "f.yaml", ["teachers.1.train.epochs=5"]).teachers[1].recipe.epochs == 5


@pytest.mark.parametrize(
    ("override", "start", "fragments"),
    [
        ("train.epochs=abc", "train.epochs: 'abc'", ["whole number"]),
        ("trian.epochs=3", "trian: there is no key 'trian'", ["did you mean 'train'"]),
        ("train.epoch=3", "train.epoch: there is no key 'epoch' in train (given: 3)", ["did you mean 'epochs'"]),
        ("method.meta.evry=3", "method.meta.evry: there is no key 'evry'", ["did you mean 'every'"]),
        ("teachers.*.sed=3", "teachers.0.sed:", ["did you mean 'seed'"]),
        ("teachers.2.seed=3", "teachers has 2 elements", ["use 0 to 1"]),
        ("teachers.-1.seed=3", "teachers is a list", ["'-1'", "use 0 to 1"]),
        ("name.x=1", "name is 'small'", ["set name as a whole"]),
        ("train.epochs.x=1", "train.epochs: {x: 1} is not a whole number", []),
        ("train.milestones.0=1", "train.milestones: {0: 1} is not a list", ["[150, 180, 210]"]),
        ("train.epochs", "an override is KEY=VALUE", []),
        ("=3", "an override is KEY=VALUE", []),
        ("train..epochs=3", "an override is KEY=VALUE", []),
        ("a." * 30 + "b=3", "is longer than any setting", []),
        ("train.epochs=[1", "the value is no YAML value", ["']'"]),
        ("train.epochs=*x", "the value is no YAML value", ["aliases"]),
        ("train.epochs=!!int 3", "the value is no YAML value", ["!!int"]),
        ("description=\x1b[31m\u202e", "the value is no YAML value", ["U+001B"]),
        ("\x1b\u202e=1", "\\x1b\\u202e: there is no key", []),
        ("train.momentum=0", "train: nesterov", []),
        ("teachers.*.seed=1", "teachers: teachers 0 and 1", []),
        ("method.name=kd", "teachers: method kd takes 1 teacher", []),
        ("method={name: aekd, tolerance: 0.1}", "method.tolerance: 2 weights of at most 0.1", ["at least 1/2, 0.5"]),
        ("method.meta={learning: joint, batches: random}", "method.meta: learning: joint takes no meta steps", []),
        ("method={name: fitnet, weigh: both}", "method.weigh: there is no key 'weigh'", ["mmkd does"]),
        ("train.label_noise=-0.1", "train.label_noise: -0.1 is out of range", ["at least 0 and below 1"]),
        ("train.batch_size=512", "method.meta.buffer_size: a buffer of 256", ["512"]),
        ("teachers={}", "teachers: {} is not a list", []),
    ],
)  # fmt: skip
def test_wrong_overrides(override: str, start: str, fragments: list[str]) -> None:
    found = problems(override)
    assert found[0].startswith("--set ")
    assert f": {start}" in found[0]
    assert all(fragment in found[0] for fragment in fragments)
    assert all(harmless(line) for line in found)
    assert len(found) == (2 if override.startswith("teachers.*.sed") else 1)


def test_star_needs_elements() -> None:
    assert "teachers is an empty list" in problems("teachers=[]", "teachers.*.seed=1")[0]


def test_a_mistake_in_the_file_keeps_its_line_beside_overrides() -> None:
    assert problems("train.epochs=3", text=SMALL + "train:\n  lr: x\n")[0].startswith("f.yaml:8: train.lr: 'x'")


def test_a_part_that_was_replaced_is_the_override_s() -> None:
    assert problems("teachers.1={arch: q}")[0].startswith("--set teachers.1={arch: q}: teachers.1.arch: ")


def test_teachers_are_told_apart_by_their_labels() -> None:
    noisy = ["teachers.*.seed=0", "teachers.*.train={epochs: 9}", "teachers.1.train.label_noise=0.4"]
    assert parse_preset(SMALL, "f.yaml", noisy).teacher_labels == ("resnet20-s0", "resnet20-s0-n40")
    assert parse_preset(SMALL, "f.yaml").teacher_labels == ("resnet20-s0", "resnet20-s1")


@pytest.mark.parametrize(
    ("file", "label"),
    [
        ("mine/vgg13_vanilla.pth", "vgg13_vanilla"),
        ("teacher0.safetensors", "teacher0"),
        ("run-17/model_best.pth.tar", "resnet14"),
        ("save/ckpt_epoch_240.pth", "resnet14"),
        ("teachers/3f9a/weights.safetensors", "resnet14"),
    ],
)
def test_a_file_gives_a_teacher_its_name_unless_every_file_is_called_so(file: str, label: str) -> None:
    given = [f"teachers.{number}={{arch: resnet14, checkpoint: {number}/{file}}}" for number in (0, 1)]
    preset = parse_preset(SMALL, "f.yaml", given)
    assert preset.teacher_labels == (label, f"{label} (2)")


# Dumps

seeds = st.integers(0, 2**63 - 1)
names = st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=64).filter(lambda name: name[0].isalnum())
awkward = st.sampled_from(
    [
        "1e3",
        "0o7",
        "0x1f",
        "no",
        "null",
        "~",
        "",
        "<<",
        "=",
        ".nan",
        "1:30",
        "2026-01-01",
        "---",
        "...",
        "|",
        ">",
        "%",
        "@",
        "`",
        "- a",
        "a: b",
        "a #b",
        "a, b: ",
        "? a",
        "[",
        "{a",
        "&a",
        "*a",
        "!a",
        "'",
        '"',
        "\\",
        " lead",
        "trail ",
        "a\n\n b",
        "x" * 300,
        "\t",
        "\x85",
        "\u2028",
        "\x00",
        "\r\n",
        "\x7f",
        "\ufeff",
        "\u202e",
        "\U000e0001",
        "\ud7fc",
        "\ue000",
        "\ufffe",
        "é",
        "𝔘",
        "\u200d",
    ]
)
texts = awkward | st.text(max_size=60) | st.text(string.printable, max_size=60)
milestones = st.none() | st.sets(st.integers(1, 10**6), max_size=5).map(lambda stones: tuple(sorted(stones)))
trains = st.builds(
    models.TrainPart,
    epochs=st.integers(1, 100_000),
    batch_size=st.integers(2, 256),
    lr=st.floats(1e-300, 100.0),
    momentum=st.floats(0.01, 0.99),
    nesterov=st.booleans(),
    weight_decay=st.floats(0.0, 1.0),
    milestones=milestones,
    lr_decay=st.floats(1e-9, 1.0),
    augment=st.booleans(),
    label_noise=st.just(0.0) | st.floats(0.0, 0.99),
)
archs = st.sampled_from(sorted(ARCHITECTURES))
recipes = st.one_of(
    st.fixed_dictionaries({"train": st.none() | trains}),
    st.fixed_dictionaries({"checkpoint": texts.filter(bool)}),
)
teachers = st.lists(
    st.tuples(archs, seeds, recipes).map(lambda parts: models.TeacherPart(arch=parts[0], seed=parts[1], **parts[2])),
    min_size=2, max_size=4, unique_by=lambda teacher: (teacher.arch, teacher.seed),
).map(tuple)  # fmt: skip
methods = st.one_of(
    st.builds(
        models.MmkdPart,
        name=st.just("mmkd"),
        beta=st.floats(0.0, 1e6),
        regressor=st.sampled_from(["pointwise", "bottleneck"]),
        weigh=st.sampled_from(["both", "logits", "features"]),
        meta=st.builds(models.MetaPart, buffer_size=st.integers(256, 10**6), lr=st.floats(1e-300, 10.0))
        | st.builds(models.MetaPart, batches=st.just("random"))
        | st.builds(models.MetaPart, learning=st.just("joint")),
    ),
    st.builds(models.EbkdPart, name=st.just("ebkd"), temperature=st.floats(1e-3, 1e3)),
    st.builds(models.CamkdPart, name=st.just("camkd"), beta=st.floats(0.0, 1e6)),
    st.builds(models.AekdPart, name=st.just("aekd"), beta=st.floats(0.0, 1e6), tolerance=st.floats(0.5, 1.0)),
    st.builds(models.FitnetPart, name=st.just("fitnet"), regressor=st.sampled_from(["pointwise", "bottleneck"])),
    st.builds(models.AverPart, name=st.just("aver"), temperature=st.floats(1e-3, 1e3)),
    st.builds(models.CePart, name=st.just("ce")),
)
presets = st.builds(
    Preset,
    name=names,
    description=texts,
    seed=seeds,
    dataset=st.builds(
        models.DatasetPart,
        name=st.sampled_from(sorted(set(DATASETS) - {"imagefolder", "webdataset"})),
        validation_fraction=st.floats(1e-9, 0.5),
        train_images=st.none() | st.integers(1),
        split_seed=seeds,
    )
    | st.builds(
        models.DatasetPart,
        name=st.just("imagefolder"),
        path=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30),
        size=st.none() | st.integers(16, 1024),
    )
    | st.builds(
        models.DatasetPart,
        name=st.just("webdataset"),
        path=st.just("shards"),
        shuffle=st.sampled_from(["images", "shards"]),
    ),
    teachers=teachers,
    student=st.builds(models.StudentPart, arch=archs),
    method=methods,
    train=trains,
    evaluate=st.builds(models.EvaluatePart, select_on=st.sampled_from(["validation", "test"]), student_alone=st.booleans()),
    hardware=st.builds(
        models.HardwarePart, device=st.sampled_from(["auto", "cpu", "cuda:3"]), threads=st.none() | st.integers(1, 1024)
    ),
)


@given(presets)
@settings(max_examples=100, deadline=None)
def test_a_dump_reads_back_as_an_equal_preset(preset: Preset) -> None:
    dumped = dump_preset(preset)
    assert all(harmless(line) for line in dumped.split("\n"))
    assert parse_preset(dumped, "dump") == preset
    assert dump_preset(parse_preset(dumped, "dump")) == dumped


def test_a_dump_is_complete_and_in_the_models_order() -> None:
    data = read_yaml(dump_preset(parse_preset(SMALL, "f.yaml"))).data
    assert list(data) == list(Preset.model_fields)
    assert list(data["train"]) == list(models.TrainPart.model_fields)
    assert data["method"]["meta"]["every"] == 5


# The schema


def all_parts() -> list[type[BaseModel]]:
    found = [part for part in vars(models).values() if isinstance(part, type) and issubclass(part, models.Part)]
    assert len(found) > 10
    return found


@pytest.mark.parametrize("part", all_parts(), ids=lambda part: part.__name__)
def test_every_field_has_a_description_and_a_unit(part: type[BaseModel]) -> None:
    assert part.__doc__
    for name, field in part.model_fields.items():
        assert field.description, name
        assert isinstance(field.json_schema_extra, dict), name
        assert field.json_schema_extra.get("unit"), name


def test_the_schema_describes_every_field() -> None:
    schema = preset_schema()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["title"]
    assert set(schema["properties"]) == set(Preset.model_fields)
    for part in (schema, *schema["$defs"].values()):
        assert part["additionalProperties"] is False
        for field in part["properties"].values():
            assert field["title"]
            assert field["description"]
            assert field["unit"]
    assert schema["$defs"]["TrainPart"]["properties"]["epochs"]["description"].endswith("(unit: epochs)")
    assert json.loads(json.dumps(schema)) == schema


def fits(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """As much of JSON Schema as ours uses to say which keys, types and names are right."""
    if "$ref" in schema:
        return fits(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return any(fits(value, one, root) for one in schema[several])
    if "const" in schema or "enum" in schema:
        return value in schema.get("enum", [schema.get("const")])
    if "type" not in schema:
        return isinstance(value, str) and re.search(schema["pattern"], value) is not None
    match schema["type"]:
        case "object":
            fields = schema["properties"]
            return (
                isinstance(value, dict)
                and set(schema.get("required", [])) <= set(value) <= set(fields)
                and all(fits(item, fields[key], root) for key, item in value.items())
            )
        case "array":
            return isinstance(value, list | tuple) and all(fits(item, schema["items"], root) for item in value)
        case "integer":
            return type(value) is int
        case "number":
            return type(value) in (int, float)
        case kind:
            return type(value) is {"string": str, "boolean": bool, "null": type(None)}[kind]


@pytest.mark.parametrize("entry", list_presets(), ids=lambda entry: entry.name)
def test_shipped_presets_are_right_and_fit_the_schema(entry: Any) -> None:
    assert entry.problem is None
    assert entry.preset.name == entry.name
    assert entry.description
    schema = preset_schema()
    assert fits(read_yaml(entry.path.read_text()).data, schema, schema)
    assert fits(read_yaml(dump_preset(entry.preset)).data, schema, schema)
    assert not fits({"name": "x"}, schema, schema)


@pytest.mark.parametrize("where", EXAMPLES)
def test_the_examples_in_messages_are_right(where: str) -> None:
    base = SMALL + "method: {name: mmkd}\n"
    if where in ("dataset.path", "dataset.size", "dataset.resize"):
        base = base.replace("{name: digits}", "{name: imagefolder, path: pictures}")
    if where == "dataset.shuffle":
        base = base.replace("{name: digits}", "{name: webdataset, path: shards}")
    if where.endswith("checkpoint"):
        overrides = [f"{where}={EXAMPLES[where]}"]
    else:
        overrides = ["teachers.*.train.milestones=[3]", "train.milestones=[3]", f"{where}={EXAMPLES[where]}"]
    if where in ("teachers.*", "teachers"):
        overrides.append("teachers.0.seed=7")
    parse_preset(base, "f.yaml", overrides)


# Files and names


def test_load_preset_refuses_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "latin").write_bytes(b"name: a\ndescription: caf\xe9\n")
    (tmp_path / "utf16").write_text(SMALL, encoding="utf-16")
    (tmp_path / "large").write_text("#" * 300_000)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, fragment in {
        "": ": is", "none": "no such file", "fifo": "not a regular file", "latin": ":2: the byte 0xe9",
        "utf16": ":1: the byte 0xff",
        "large": "larger than 256 KB", "loop": "cannot be read", "a\0b": "cannot be read",
        "x" * 300: "cannot be read", "large/x": "cannot be read",
    }.items():  # fmt: skip
        with pytest.raises(PresetError) as caught:
            load_preset(tmp_path / name)
        (problem,) = caught.value.problems
        assert fragment in problem
        assert harmless(problem)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert load_preset(path) == parse_preset(SMALL, "f.yaml")
    path.write_bytes(path.read_bytes() + b"train: {epochs: x}\r\n")
    with pytest.raises(PresetError, match=r"windows.yaml:7: train.epochs"):
        load_preset(path)


def test_find_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_preset("quickstart") == presets_dir() / "quickstart.yaml"
    (tmp_path / "mine.yaml").write_text(SMALL)
    assert find_preset("mine.yaml") == Path("mine.yaml")
    assert find_preset(str(tmp_path / "mine.yaml")) == tmp_path / "mine.yaml"
    for name in ("quikstart", "quikstart.yaml", "../quickstart", "\0", "x" * 5000, "\x1b[31m"):
        with pytest.raises(UserError, match=r"there is no preset .*; or give the path of a file$") as caught:
            find_preset(name)
        assert harmless(str(caught.value))
        assert "fashion-mnist" not in str(caught.value)  # not all names, of which there are dozens
    with pytest.raises(UserError, match=r"did you mean 'quickstart'\? mmkd presets list shows the shipped ones; or give"):
        find_preset("quikstart")


def test_the_quickstart_is_listed_first() -> None:
    assert next(entry.name for entry in list_presets()) == "quickstart"


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (b"name: typo\nstudnet: {arch: resnet8}\n", "line 2: studnet: there is no key"),
        (b"name: a\nDatasets: digits\n", "line 2: Datasets: there is no key"),
        (b"\xef\xbb\xbfdataset: {name: digits}\nmethods: {name: mmkd}\n", "line 2: methods: there is no key"),
        (b"name: a\n'method' :\n\tname: mmkd\n", "line 3: a tab;"),
        (b"teachers: []\r\nname: caf\xe9\r\n", "line 2: the byte 0xe9"),
        (b"student: &x {arch: resnet8}\nname: *x\n", "line 1: student: &x: anchors"),
    ],
)
def test_what_is_meant_as_a_preset_is_listed_with_its_mistake(text: bytes, first: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_bytes(text)
    (entry,) = own_presets(tmp_path)
    assert (entry.name, entry.preset) == ("mine", None)
    assert entry.mistakes[0].startswith(first)


@pytest.mark.parametrize(
    "text",
    [
        "version: 3\nservices:\n  web: {image: x}\nvolumes: {}\n",
        "name: CI\non: push\njobs:\n  test:\n    method: y\n",
        "name: t\npresets: [quickstart]\nmethods: [{name: mmkd}]\nseeds: [x]\n",
        "name: t\nmethods: [{name: mmkd}]\nseeds: [0]\n",
        "name: s\npresets: [quickstart]\nsettings: {method.alpha: {grid: [1]}}\nmethod: x\n",
        "- dataset: a\n- student: b\n",
        "model: a\ndatabase: b\ndata: c\n",
        "dataset: squad\nmodel: bert\nlr: 1\n",
        "datasets: {train: x}\nbackbone: y\n",
        "see dataset:\n",
        "",
    ],
)
def test_other_yaml_is_not_listed(text: str, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(text)
    (tmp_path / "folder.yaml").mkdir()
    assert own_presets(tmp_path) == []


# Text


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("plain é 日本 👩\u200d🚀", "plain é 日本 👩\u200d🚀"), ("\x1b[31m", "\\x1b[31m"), ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b", "\\x9b"),
        ("\u202e\u2066", "\\u202e\\u2066"), ("\U000e0041", "\\U000e0041"), ("\ud800", "\\ud800"), ("\u2028", "\\u2028"),
    ],
)  # fmt: skip
def test_plain(given_text: str, shown: str) -> None:
    assert plain(given_text) == shown
    assert plain(shown) == shown


def test_plain_keeps_what_it_is_told_and_cuts() -> None:
    assert plain("a\n\x1b", keep="\n") == "a\n\\x1b"
    assert plain("x" * 61, 60) == "x" * 59 + "…"
    assert plain("x" * 60, 60) == "x" * 60
    assert len(plain("\x1b" * 60, 60)) == 60
    assert one_line(" a\n  b\x1b ") == "a b\\x1b"


def test_a_file_that_is_not_there_is_told_without_all_shipped_names() -> None:
    with pytest.raises(UserError, match=r"^there is no preset 'no/such\.yaml': no such file; mmkd presets list shows") as caught:
        find_preset("no/such.yaml")
    assert "quickstart" not in str(caught.value)
