"""From a table file to presets and folders; every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.presets import TINY

from engine.errors import PresetError, UserError
from engine.preset import AverPart, MmkdPart
from engine.preset_yaml import load_preset, presets_dir
from engine.same_training import run_key
from engine.tables.plan import Plan, plan_table
from engine.tables.read import find_table

GOOD = """\
name: pair
presets: [tiny.yaml]
methods:
  - {name: mmkd, label: MMKD}
  - {name: mmkd, label: "MMKD, raw Gram", settings: {gram: raw, meta: {every: 3}}}
  - {name: aver}
seeds: [0, 4]
overrides: {train: {lr: 0.02}}
"""


def planned(folder: Path, text: str, *overrides: str) -> Plan:
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "table.yaml").write_text(text)
    return plan_table(folder / "table.yaml", folder / "runs", overrides)


def refused(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(PresetError) as caught:
        planned(folder, text, *overrides)
    return [line.removeprefix(f"{folder}/") for line in caught.value.problems]


def test_methods_times_seeds_seed_by_seed(tmp_path: Path) -> None:
    plan = planned(tmp_path, GOOD)
    assert [(run.label, run.seed) for run in plan.runs] == [
        (label, seed) for seed in (0, 4) for label in ("MMKD", "MMKD, raw Gram", "Average")
    ]
    assert plan.reference == "MMKD"
    for run in plan.runs:
        assert run.preset.seed == run.seed
        assert run.preset.train.lr == 0.02
        assert run.preset.train.epochs == 3
        assert run.folder.parent == tmp_path / "runs" / "tables" / "pair"
    assert plan.runs[1].folder.name.startswith("mmkd-raw-gram-s0-")


def test_settings_lie_over_the_presets_own_method_and_another_method_begins_from_its_defaults(tmp_path: Path) -> None:
    mmkd, raw, aver = (run.preset.method for run in planned(tmp_path, GOOD).runs[:3])
    assert isinstance(mmkd, MmkdPart)
    assert isinstance(raw, MmkdPart)
    assert (raw.beta, raw.gram, raw.meta.every, raw.meta.buffer_size) == (1, "raw", 3, 40)
    assert (mmkd.beta, mmkd.gram, mmkd.meta.every) == (1, "normalised", 2)
    assert aver == AverPart(name="aver")


def test_folders_are_the_same_whenever_asked_and_change_with_what_is_trained(tmp_path: Path) -> None:
    before = [run.folder for run in planned(tmp_path, GOOD).runs]
    assert [run.folder for run in planned(tmp_path, GOOD).runs] == before
    assert len(set(before)) == len(before)
    # Where it runs makes no other run of it; what is trained does.
    assert [run.folder for run in planned(tmp_path, GOOD, "hardware.device=cuda:1", "checkpoints.keep=9").runs] == before
    assert not {run.folder for run in planned(tmp_path, GOOD, "train.epochs=4").runs} & set(before)
    assert not {run.folder for run in planned(tmp_path, GOOD, "hardware.precision=bf16").runs} & set(before)


def test_a_default_that_is_written_out_is_the_same_training(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    assert run_key(load_preset(tmp_path / "tiny.yaml")) == run_key(load_preset(tmp_path / "tiny.yaml", ["train.momentum=0.9"]))


def test_the_command_lines_overrides_come_last(tmp_path: Path) -> None:
    assert {run.preset.train.lr for run in planned(tmp_path, GOOD, "train.lr=0.5").runs} == {0.5}


def test_several_presets_have_folders_of_their_own(tmp_path: Path) -> None:
    plan = planned(tmp_path, GOOD.replace("[tiny.yaml]", "[tiny.yaml, quickstart]"))
    assert [block.title for block in plan.blocks] == ["tiny", "quickstart"]
    assert plan.blocks[1].runs[0].folder.name.startswith("quickstart-mmkd-s0-")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("name: pair", "name: pair\nmethod: mmkd", "2: method: there is no key 'method' in a table (given: 'mmkd'); did you"),
        ("seeds: [0, 4]\n", "", "1: seeds: is missing; add for example 'seeds: [0, 1, 2]'"),
        ("seeds: [0, 4]", "seeds: [0, 0]", "7: seeds: '0' stands there twice; remove one"),
        ("seeds: [0, 4]", "seeds: [0, -4]", "7: seeds.1: -4 is out of range; it must be at least 0"),
        ("seeds: [0, 4]", "seeds: [0, a]", "7: seeds.1: 'a' is not a whole number; write for example 0"),
        ("{name: aver}", "{name: avr}", "6: methods.2.name: there is no method 'avr'; did you mean 'aver'?"),
        ("{name: aver}", "{name: aver, lable: A}", "6: methods.2.lable: there is no key 'lable' in methods.2 (given: 'A'); did"),
        ("{name: aver}", "{name: aver, label: MMKD}", "3: methods: 'MMKD' stands there twice; give one another label"),
        ("gram: raw", "gram: rough", "5: MMKD, raw Gram: method.gram: 'rough' is not among the choices; use one of"),
        ("every: 3", "every: 0", "5: MMKD, raw Gram: method.meta.every: 0 is out of range"),
        ("{name: aver}", "{name: aver, settings: {beta: 3}}", "6: Average: method.beta: there is no key 'beta' in method"),
        ("{name: aver}", "{name: kd}", "6: KD: teachers: method kd takes 1 teacher and has 2"),
        ("{name: aver}", "{name: mmkd, label: again}", "6: methods.2: asks for the same training as 'MMKD'; remove one"),
        ("{name: aver}", "{name: aver, overrides: {seed: 3}}", "6: methods.2.overrides.seed: cannot be overridden"),
        ("lr: 0.02", "lr: -1", "8: MMKD: train.lr: -1 is out of range"),
        ("overrides:", "reference: mmkd\noverrides:", "8: reference: no method is labelled 'mmkd'; use one of MMKD, "),
        ("{name: aver}", "{name: aver, overrides: {evaluate: {select_on: test}}}", "6: methods.2: 'Average' chooses its best"),
        (
            "{name: aver}", "{name: aver, overrides: {dataset: {name: fashion-mnist}}}",
            "6: methods.2: 'Average' is tested on other images than 'MMKD', by its dataset; make that a preset",
        ),
        ("overrides:", "published: [{method: A, mean: 175, source: b}]\noverrides:", "8: published.0.mean: 175 is out of range"),
        ("overrides:", "published: [{method: A, mean: 75}]\noverrides:", "8: published.0.source: is missing"),
        ("name: aver", "nam: aver", "6: methods.2.name: is missing; add for example 'name: mmkd'"),
        ("presets: [tiny.yaml]", "presets: tiny.yaml", "2: presets: 'tiny.yaml' is not a list; write for example [quick"),
        (GOOD, "", "1: the table is empty; it needs name, presets, methods and seeds"),
        ("seeds: [0, 4]", "seeds: &s [0, 4]", "7: seeds: &s: anchors"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_a_remedy(tmp_path: Path, old: str, new: str, line: str) -> None:
    assert old in GOOD
    problems = refused(tmp_path, GOOD.replace(old, new, 1))
    assert problems[0].startswith(f"table.yaml:{line}"), problems


def test_a_mistake_in_an_option_is_told_in_its_words(tmp_path: Path) -> None:
    assert refused(tmp_path, GOOD, "train.lr=many")[0].startswith("--set train.lr=many: MMKD: train.lr: 'many' is not a number")
    assert refused(tmp_path, GOOD, "seed=3") == ["--set seed=3: a table gives the seeds itself; change its seeds"]


def test_a_table_of_teachers_alone_is_refused(tmp_path: Path) -> None:
    said = "the run would train teachers alone, and there would be no student to compare; remove only_teachers"
    assert refused(tmp_path, GOOD, "only_teachers=true") == [f"--set only_teachers=true: {said}"]
    overridden = GOOD.replace("{train: {lr: 0.02}}", "{only_teachers: true}")
    assert refused(tmp_path, overridden) == [f"table.yaml:8: overrides.only_teachers: tiny: {said}"]
    (tmp_path / "alone.yaml").write_text(f"only_teachers: true\n{TINY}")
    named = GOOD.replace("tiny.yaml", "alone.yaml")
    assert refused(tmp_path, named) == [f"table.yaml:2: presets.0: tiny: {said}"]


def test_a_mistake_in_a_preset_names_the_preset(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY.replace("epochs: 3", "epochs: 0"))
    (tmp_path / "table.yaml").write_text(GOOD)
    with pytest.raises(PresetError) as caught:
        plan_table(tmp_path / "table.yaml", tmp_path)
    assert "tiny.yaml:9: train.epochs" in str(caught.value)


def test_published_figures_of_several_presets_say_which(tmp_path: Path) -> None:
    text = GOOD.replace("[tiny.yaml]", "[tiny.yaml, quickstart]") + "published: [{method: MMKD, mean: 75, source: a}]\n"
    assert refused(tmp_path, text) == [
        "table.yaml:9: published.0: needs the preset that it belongs to; add preset: one of quickstart, tiny"
    ]


@pytest.mark.parametrize("path", sorted((presets_dir() / "tables").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_tables_are_right_and_found_by_name(path: Path, tmp_path: Path) -> None:
    assert find_table(path.stem) == path
    plan = plan_table(path, tmp_path)
    assert plan.name == path.stem
    assert plan.description


def test_a_table_that_is_not_there_is_one_line_with_the_names() -> None:
    with pytest.raises(UserError, match=r"there is no table 'nowhere'; .*give the path of a file"):
        find_table("nowhere")
