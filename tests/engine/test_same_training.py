"""Which settings make no other training: the same ones for a table's folders, for going on with a run, and side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.presets import tiny

from engine.comparison import side_by_side
from engine.errors import UserError
from engine.preset_changes import refuse_changes
from engine.preset_yaml import dump_preset
from engine.same_training import run_key

BASE = ("teacher_cache.views=2",)


@pytest.mark.parametrize(
    "override",
    [
        "name=other",
        "description=words",
        "hardware.device=cuda:1",
        "hardware.threads=3",
        "hardware.workers=3",
        "hardware.compile=off",
        "hardware.teachers=in_turn",
        "teacher_cache.storage=memory",
        "checkpoints.every_epochs=2",
        "evaluate.batch_size=64",
        "trackers=[tensorboard]",
    ],
)
def test_what_makes_no_other_training(override: str, tmp_path: Path) -> None:
    one, other = tiny(*BASE), tiny(*BASE, override)
    assert run_key(one) == run_key(other)
    refuse_changes(one.model_dump(mode="json"), other.model_dump(mode="json"), 1, "the run")
    for name, preset in (("one", one), ("other", other)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "preset.yaml").write_text(dump_preset(preset))
    assert side_by_side([tmp_path / "one", tmp_path / "other"]).differing == ()


@pytest.mark.parametrize(
    "override", ["hardware.precision=bf16", "evaluate.select_on=test", "teacher_cache.views=3", "train.lr=0.3", "method.alpha=2"]
)
def test_what_does(override: str) -> None:
    one, other = tiny(*BASE), tiny(*BASE, override)
    assert run_key(one) != run_key(other)
    with pytest.raises(UserError, match=r"the run: .* was .* and is"):
        refuse_changes(one.model_dump(mode="json"), other.model_dump(mode="json"), 1, "the run")


def test_what_is_done_about_the_not_finite_may_change_in_a_run_but_is_another_training() -> None:
    one, other = tiny(*BASE), tiny(*BASE, "non_finite.skip=3")
    assert run_key(one) != run_key(other)
    refuse_changes(one.model_dump(mode="json"), other.model_dump(mode="json"), 1, "the run")
