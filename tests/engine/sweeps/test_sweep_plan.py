"""From a sweep file to presets and folders; every mistake with its line."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from support.presets import TINY

from engine.errors import PresetError
from engine.preset_yaml import load_preset
from engine.same_training import run_key
from engine.sweeps.draws import drawn
from engine.sweeps.plan import SweepPlan, plan_sweep

GOOD = """\
name: some
presets: [tiny.yaml]
settings:
  train.lr: [0.01, 0.1]
  method.beta: {log_uniform: [0.1, 100]}
  train.epochs: {int_uniform: [2, 4]}
trials: 3
seeds: [0, 4]
overrides: {train: {momentum: 0.8}}
halving: {min_epochs: 1}
"""
GRID = """\
name: grid
presets: [tiny.yaml]
settings:
  train.lr: [0.01, 0.1]
  method.name:
    - mmkd
    - aver
"""


def planned(folder: Path, text: str, *overrides: str) -> SweepPlan:
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "sweep.yaml").write_text(text)
    return plan_sweep(folder / "sweep.yaml", folder / "runs", overrides)


def refused(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(PresetError) as caught:
        planned(folder, text, *overrides)
    return [line.removeprefix(f"{folder}/") for line in caught.value.problems]


def test_grid_times_trials_times_seeds(tmp_path: Path) -> None:
    plan = planned(tmp_path, GOOD)
    assert len(plan.runs) == 2 * 3 * 2
    assert [run.seed for run in plan.runs] == [0] * 6 + [4] * 6  # something of every combination first
    for run in plan.runs:
        settings = dict(run.settings)
        assert run.preset.train.lr == settings["train.lr"]
        assert run.preset.method.beta == settings["method.beta"]  # type: ignore[union-attr]
        assert run.preset.train.epochs == settings["train.epochs"] in (2, 3, 4)
        assert run.preset.train.momentum == 0.8
        assert run.preset.seed == run.seed
        assert run.folder == tmp_path / "runs" / "sweeps" / "some" / run.folder.name
        assert run.folder.name.endswith(f"-s{run.seed}-{run_key(run.preset)}")
    # A trial's draw is the same for every cell of the grid and every seed.
    drawn_of = {(dict(run.settings)["train.lr"], run.seed): [] for run in plan.runs}  # type: ignore[var-annotated]
    for run in plan.runs:
        drawn_of[dict(run.settings)["train.lr"], run.seed].append(dict(run.settings)["method.beta"])
    assert len({tuple(values) for values in drawn_of.values()}) == 1
    assert len({*drawn_of.popitem()[1]}) == 3


def test_folders_are_the_same_whenever_asked_and_change_with_what_is_trained(tmp_path: Path) -> None:
    before = [run.folder for run in planned(tmp_path, GOOD).runs]
    assert [run.folder for run in planned(tmp_path, GOOD, "hardware.device=cuda:1").runs] == before
    assert not {run.folder for run in planned(tmp_path, GOOD.replace("0.8", "0.7")).runs} & set(before)
    assert not {run.folder for run in planned(tmp_path, GOOD.replace("trials", "draw_seed: 1\ntrials")).runs} & set(before)
    more = {run.folder for run in planned(tmp_path, GOOD.replace("trials: 3", "trials: 5")).runs}
    assert set(before) < more  # more trials are further ones


def test_another_method_begins_from_its_defaults(tmp_path: Path) -> None:
    plan = planned(tmp_path, GRID)
    assert [(run.preset.method.name, run.preset.train.lr) for run in plan.runs] == [
        (method, lr) for lr in (0.01, 0.1) for method in ("mmkd", "aver")
    ]
    assert [run.label for run in plan.runs][:2] == ["lr=0.01 method=mmkd", "lr=0.01 method=aver"]


def test_another_method_is_the_same_wherever_it_is_asked_for(tmp_path: Path) -> None:
    grid = "name: some\npresets: [tiny.yaml]\nsettings: {train.lr: [0.1]}\n"  # tiny's method is mmkd, with settings of its own
    (wanted,) = {run.preset.method for run in planned(tmp_path, grid, "method={name: aver, temperature: 8}").runs}
    hot = grid + "overrides: {method: {temperature: 8}}\n"
    for text, options in (
        (grid + "overrides: {method: {name: aver, temperature: 8}}\n", ()),
        (hot, ("method.name=aver",)),
        (hot.replace("[0.1]", "[0.1], method.name: [aver]"), ()),
        (grid.replace("[0.1]", "[0.1], method.temperature: [8]"), ("method.name=aver",)),
    ):
        assert [run.preset.method for run in planned(tmp_path, text, *options).runs] == [wanted]
    both = planned(tmp_path, hot.replace("[0.1]", "[0.1], method.name: [aver, mmkd]"))
    tiny = load_preset(tmp_path / "tiny.yaml", ["method.temperature=8"])
    assert [run.preset.method for run in both.runs] == [wanted, tiny.method]  # the preset's own keeps what the preset says of it


def test_what_would_overwrite_a_varied_setting_is_refused(tmp_path: Path) -> None:
    varies = "change its settings"
    assert refused(tmp_path, GRID, "train={lr: 0.05}") == [f"--set train={{lr: 0.05}}: the sweep varies train.lr; {varies}"]
    teachers = GRID + "  teachers.0.seed: [5, 6]\n"
    told = f"--set teachers.*.seed=3: the sweep varies teachers.0.seed; {varies}"
    assert refused(tmp_path, teachers, "teachers.*.seed=3") == [told]
    assert planned(tmp_path, teachers, "teachers.1.seed=3").runs
    assert refused(tmp_path, GRID + "  train: [{epochs: 3}, {epochs: 4}]\n") == [
        "sweep.yaml:8: settings.train: would overwrite train.lr, which varies, too; vary its other parts one by one"
    ]
    assert planned(tmp_path, GRID.replace("  train.lr", "  train: [{batch_size: 32}, {batch_size: 20}]\n  train.lr")).runs


def test_a_run_is_called_by_what_differs_and_keeps_its_folder_when_more_does(tmp_path: Path) -> None:
    single = planned(tmp_path, GRID + "  train.epochs: [4]\n")
    assert [run.label for run in single.runs][:2] == ["lr=0.01 method=mmkd", "lr=0.01 method=aver"]
    assert all("epochs-4" in run.folder.name for run in single.runs)
    more = planned(tmp_path, GRID + "  train.epochs: [4, 6]\n")
    assert "lr=0.01 method=mmkd epochs=4" in [run.label for run in more.runs]
    assert {run.folder for run in single.runs} < {run.folder for run in more.runs}


def test_the_same_run_is_done_once(tmp_path: Path) -> None:
    text = "name: few\npresets: [tiny.yaml]\nsettings: {train.lr: {choice: [0.1, 0.2]}}\ntrials: 12\n"
    plan = planned(tmp_path, text)
    assert (len(plan.runs), plan.repeated) == (2, 10)


def test_draws_have_the_distribution_that_is_asked_for() -> None:
    """By the fraction below a point, whose distance from the truth is at most 1.95 / sqrt(n) with p > 0.999 (Kolmogorov)."""
    count = 4000
    for varied, share in (
        ({"uniform": (2, 6)}, lambda x: (x - 2) / 4),
        ({"log_uniform": (0.001, 10)}, lambda x: math.log10(x / 0.001) / 4),
    ):
        values = sorted(drawn(varied, 0, "train.lr", trial) for trial in range(count))
        distance = max(abs((rank + 1) / count - share(value)) for rank, value in enumerate(values))  # type: ignore[no-untyped-call]
        assert distance < 1.95 / math.sqrt(count)
    whole = [drawn({"int_uniform": (1, 4)}, 0, "train.epochs", trial) for trial in range(count)]
    assert {value: abs(whole.count(value) / count - 0.25) < 0.03 for value in whole} == dict.fromkeys((1, 2, 3, 4), True)
    assert drawn({"uniform": (0, 1)}, 0, "a", 0) != drawn({"uniform": (0, 1)}, 0, "b", 0) != drawn({"uniform": (0, 1)}, 1, "b", 0)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("name: some", "nam: some", "1: nam: there is no key 'nam' in a sweep (given: 'some'); did you mean 'name'?"),
        ("presets: [tiny.yaml]\n", "", "1: presets: is missing; add for example 'presets: [quickstart]'"),
        ("[0.01, 0.1]", "[0.01, 0.01]", "4: settings.train.lr.1: 0.01 stands there twice; remove one"),
        ("[0.01, 0.1]", "[]", "4: settings.train.lr: is an empty list"),
        ("[0.01, 0.1]", "0.01", "4: settings.train.lr: 0.01 does not vary; give a list"),
        ("[0.01, 0.1]", "[0.01, -0.1]", "4: train.lr: -0.1 is out of range"),
        ("train.lr:", "train.lrr:", "4: train.lrr: there is no key 'lrr' in train (given: 0.01); did you mean 'lr'?"),
        ("train.lr:", "seed:", "4: settings.seed: cannot be varied: the sweep's seeds give it"),
        ("train.lr:", "teachers.9.arch:", "4: settings.teachers.9.arch: teachers has 2 elements, counted from 0"),
        ("train.lr:", "train.:", "4: settings.train.: is no setting; write for example train.lr"),
        ("log_uniform: [0.1, 100]", "log_uniform: [0, 100]", "5: settings.method.beta.log_uniform: [0, 100] has no logarithm"),
        ("log_uniform: [0.1, 100]", "lognormal: [1, 100]", "5: settings.method.beta.lognormal: there is no way to draw called"),
        ("log_uniform: [0.1, 100]", "uniform: [3, 1]", "5: settings.method.beta.uniform: [3, 1] is no range"),
        ("int_uniform: [2, 4]", "int_uniform: [2, 4.5]", "6: settings.train.epochs.int_uniform: [2, 4.5] are not whole numbers"),
        ("int_uniform: [2, 4]", "uniform: [2, 4]", "6: train.epochs: 3."),
        ("trials: 3\n", "", "1: trials: some settings are drawn at random; say how often by, for example, trials: 10"),
        ("trials: 3", "trials: 0", "7: trials: 0 is out of range; it must be at least 1 and at most 10000"),
        ("trials: 3", "trials: 9000", "3: settings: these are 36000 runs; a sweep has at most 10000"),
        ("seeds: [0, 4]", "seeds: []", "8: seeds: [] is too short; write for example [0, 1]"),
        ("presets: [tiny.yaml]", "presets: tiny.yaml", "2: presets: 'tiny.yaml' is not a list; write for example [quickstart]"),
        ("name: some", "name: Some", "1: name: 'Some' does not fit; use 1 to 64 of a-z"),
        ("{min_epochs: 1}", "3", "10: halving: 3 is not a mapping of keys; write for example {min_epochs: 3}"),
        ("seeds: [0, 4]", "seeds: [4, 4]", "8: seeds: '4' stands there twice; remove one"),
        ("momentum: 0.8", "momentum: 8", "9: train.momentum: 8 is out of range"),
        ("{train: {", "{seed: 1, train: {", "9: overrides.seed: cannot be overridden: the sweep's seeds give it"),
        ("min_epochs: 1", "eta: 3", "10: halving.min_epochs: is missing; add for example 'min_epochs: 3'"),
        ("min_epochs: 1", "min_epochs: 1, metric: accuracy", "10: halving.metric: 'accuracy' is not one of best"),
        (GOOD, "", "1: the sweep is empty; it needs name, presets and settings"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_a_remedy(tmp_path: Path, old: str, new: str, line: str) -> None:
    assert old in GOOD
    problems = refused(tmp_path, GOOD.replace(old, new, 1))
    assert any(problem.startswith(f"sweep.yaml:{line}") for problem in problems), problems


def test_a_list_is_not_called_too_short_because_an_element_is_wrong(tmp_path: Path) -> None:
    problems = refused(tmp_path, GOOD.replace("seeds: [0, 4]", "seeds: [0.5]"))
    assert problems == ["sweep.yaml:8: seeds.0: 0.5 is not a whole number; write for example 0"]


def test_a_value_on_a_line_of_its_own_is_told_with_that_line(tmp_path: Path) -> None:
    assert refused(tmp_path, GRID.replace("- aver", "- avr"))[0].startswith("sweep.yaml:7: method.name: there is no method 'avr'")
    assert "sweep.yaml:3: settings: " in refused(tmp_path, GRID + "  hardware.device: [cpu, auto]\n")[0]


def test_runs_are_compared_only_after_epochs_that_are_measured(tmp_path: Path) -> None:
    seldom = GOOD.replace("momentum: 0.8}", "momentum: 0.8, epochs: 60}, evaluate: {every: 5}").replace(
        "  train.epochs: {int_uniform: [2, 4]}\n", ""
    )
    (told,) = refused(tmp_path, seldom.replace("min_epochs: 1", "min_epochs: 3"))
    assert told == (
        "sweep.yaml:9: halving.min_epochs: after epoch 3 a run is not measured: evaluate.every is 5; "
        "give a multiple of that, as 5"
    )
    assert planned(tmp_path, seldom.replace("min_epochs: 1", "min_epochs: 10")).runs
    assert planned(tmp_path, seldom.replace("min_epochs: 1", "min_epochs: 61")).runs  # no run comes to a rung


def test_a_mistake_in_an_option_is_told_in_its_words(tmp_path: Path) -> None:
    assert refused(tmp_path, GRID, "train.momentum=many")[0].startswith("--set train.momentum=many: train.momentum: 'many'")
    assert refused(tmp_path, GRID, "seed=3") == ["--set seed=3: a sweep gives the seeds itself; change its seeds"]
    assert refused(tmp_path, GRID, "train.lr=3") == ["--set train.lr=3: the sweep varies train.lr; change its settings"]


def test_a_sweep_of_teachers_alone_is_refused(tmp_path: Path) -> None:
    said = "the run would train teachers alone, and there would be no student to compare; remove only_teachers"
    assert refused(tmp_path, GOOD, "only_teachers=true") == [f"--set only_teachers=true: {said}"]
    varied = GRID.replace("train.lr: [0.01, 0.1]", "only_teachers: [false, true]")
    assert refused(tmp_path, varied) == [f"sweep.yaml:4: settings.only_teachers: tiny: {said}"]
    (tmp_path / "alone.yaml").write_text(f"only_teachers: true\n{TINY}")
    assert refused(tmp_path, GRID.replace("tiny.yaml", "alone.yaml")) == [f"sweep.yaml:2: presets: tiny: {said}"]


def test_a_run_is_the_preset_with_its_settings_and_nothing_else(tmp_path: Path) -> None:
    run = planned(tmp_path, GRID).runs[2]
    assert run.preset == load_preset(tmp_path / "tiny.yaml", ["train.lr=0.1"])


@pytest.mark.parametrize("document", ["README.md", "docs/sweeps.md"])
def test_the_sweeps_in_the_documentation_are_right(document: str, tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / document).read_text()
    (example,) = (block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "settings:\n" in block)
    (tmp_path / "sweep.yaml").write_text(example)
    plan = plan_sweep(tmp_path / "sweep.yaml", tmp_path)
    assert len(plan.runs) == 6 * 2
    assert plan.halving is not None
    assert plan.halving.rungs(plan.runs[0].preset.train.epochs)[:2] == (3, 9)
