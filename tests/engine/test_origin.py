"""A run goes on from a checkpoint only with what that was made with, as far as it decides the past."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.presets import tiny
from torch import nn

from engine import Preset, Run
from engine.errors import UserError
from engine.events import Event, Metrics
from engine.models import build_model
from engine.origin import origin, refuse_another
from engine.preset_yaml import dump_preset, load_preset
from engine.run_dir import RunDir
from engine.spawning import respawn

EIGHT = "train.epochs=8"


def allowed(before: Preset, now: Preset, epoch: int = 3) -> bool:
    try:
        refuse_another(origin(before), origin(now), epoch)
    except UserError:
        return False
    return True


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ("method.beta=2", "method.beta was 1.0 and is 2.0"),
        ("train.lr=0.1", "train.lr was 0.05 and is 0.1"),
        ("teachers.1.seed=7", "teachers.1.seed was 1 and is 7"),
        ("seed=4", "seed was 0 and is 4"),
        ("hardware.precision=bf16", "hardware.precision was auto and is bf16"),
        ("teacher_cache={views: 2}", "teacher_cache.views was null and is 2"),
        ("train.epochs=2", "train.epochs was 8 and is 2"),  # three are done
    ],
)
def test_what_would_have_made_the_past_another_is_refused(change: str, fragment: str) -> None:
    with pytest.raises(UserError) as caught:
        refuse_another(origin(tiny(EIGHT)), origin(tiny(EIGHT, change)), 3)
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        "hardware.threads=1",
        "hardware.device=cuda:1",
        "hardware.compile=on",
        "description=other",
        "name=x",
        "checkpoints={every: null, every_epochs: 1, keep: 9}",
    ],
)
def test_what_changes_no_step_may_change(change: str) -> None:
    assert allowed(tiny(EIGHT), tiny(EIGHT, change))


def test_more_epochs_may_be_asked_for_while_the_past_keeps_its_learning_rates() -> None:
    assert allowed(tiny(EIGHT), tiny("train.epochs=20"), epoch=3)
    assert not allowed(tiny(EIGHT), tiny("train.epochs=20"), epoch=5)  # 8 epochs cut the rate after the 5th, 20 after the 12th
    fixed = "train.milestones=[4]"
    assert allowed(tiny(EIGHT, fixed), tiny("train.epochs=20", fixed), epoch=5)


def test_one_bit_of_a_teacher_is_seen() -> None:
    teacher = build_model("resnet8", 1, 10)
    before = origin(tiny(), [("a", "store", teacher)])
    refuse_another(before, origin(tiny(), [("a", "store", build_model("resnet8", 1, 10))]), 0)
    with torch.no_grad():
        next(teacher.parameters()).view(-1)[0].mul_(1 + 2e-7)
    with pytest.raises(UserError, match=r"teacher a .* has other weights"):
        refuse_another(before, origin(tiny(), [("a", "store", teacher)]), 0)


def test_a_checkpoint_of_an_older_release_is_taken() -> None:
    refuse_another(None, origin(tiny()), 0)
    before = origin(tiny(EIGHT))
    del before["preset"]["hardware"]["precision"], before["preset"]["checkpoints"]
    refuse_another(before, origin(tiny(EIGHT)), 0)


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """Of a run of 8 epochs that stopped; no host is started that goes on with it."""
    monkeypatch.setattr("engine.spawning.start_host", lambda *_: None)
    found = RunDir(tmp_path / "run")
    found.path.mkdir()
    found.preset.write_text(dump_preset(tiny(EIGHT, "train.milestones=[5]")))
    found.result.write_text('{"state": "stopped"}')
    return found


def with_checkpoint(run_dir: RunDir, name: str, epoch: int) -> None:
    folder = run_dir.checkpoints / f"{name}-step-000010"
    folder.mkdir(parents=True)
    (folder / "facts.json").write_text(f'{{"epoch": {epoch}}}')


def test_a_stopped_run_can_be_given_more_epochs_or_another_device_to_go_on_with(run_dir: RunDir) -> None:
    with_checkpoint(run_dir, "distil-0", 6)
    respawn(run_dir.path, overrides=["train.epochs=20", "hardware.device=cuda:1", "checkpoints.every=60"])
    assert load_preset(run_dir.preset) == tiny(
        "train.epochs=20", "train.milestones=[5]", "hardware.device=cuda:1", "checkpoints.every=60"
    )
    assert not run_dir.result.exists()


@pytest.mark.parametrize(
    ("overrides", "fragment"),
    [
        (["train.epochs=6"], "train.epochs was 8 and is 6"),  # as many are done
        (["train.milestones=[3]"], "train.milestones was [5] and is [3]"),
        (["seed=1"], "seed was 0 and is 1"),
        (["teachers.0.seed=1"], "the same one twice|teachers.0.seed"),
        (["train.epochs=no"], "epochs"),
    ],
)
def test_what_a_stopped_run_cannot_go_on_with_leaves_its_folder_as_it_is(
    overrides: list[str], fragment: str, run_dir: RunDir
) -> None:
    with_checkpoint(run_dir, "distil-0", 6)
    before = run_dir.preset.read_bytes()
    with pytest.raises(UserError) as caught:
        respawn(run_dir.path, overrides=overrides)
    assert any(part in str(caught.value) for part in fragment.split("|"))
    assert (run_dir.preset.read_bytes(), run_dir.result.exists()) == (before, True)


def test_before_the_student_has_begun_it_may_be_given_fewer_epochs(run_dir: RunDir) -> None:
    with_checkpoint(run_dir, "teacher-1", 6)  # of a recipe of its own
    respawn(run_dir.path, overrides=["train.epochs=4"])
    assert load_preset(run_dir.preset).train.epochs == 4


def stopped_at(step: int, run: Run) -> Run:
    def listen(event: Event) -> None:
        if isinstance(event, Metrics) and event.phase == "distil" and event.step >= step:
            run.control.stop()

    run.subscribe(listen)
    run.execute()
    return run


def test_a_run_with_another_teacher_file_waits_until_it_is_put_back(tmp_path: Path) -> None:
    file = tmp_path / "teacher.pth"

    def write(seed: int) -> None:
        torch.save(_trained(seed).state_dict(), file)

    write(1)
    given = f"teachers.0={{arch: resnet8, checkpoint: '{file}'}}"
    asked = tiny("train.epochs=6", "evaluate.student_alone=false", "evaluate.accept_weak_teachers=true", given)
    folder, store = tmp_path / "run", tmp_path / "store"
    run = stopped_at(12, Run(asked, folder, store=store))
    assert run.result is not None
    assert run.result.state == "stopped"
    write(2)
    other = Run(asked, folder, store=store, resume=True)
    other.execute()
    assert other.result is not None
    assert other.result.mistake
    assert "teacher (checkpoint) has other weights" in other.result.message
    write(1)
    again = Run(asked, folder, store=store, resume=True)
    seen: list[int] = []
    again.subscribe(lambda event: seen.append(event.step) if isinstance(event, Metrics) else None)
    assert again.execute().state == "done"
    assert seen[0] > 12  # it went on, and did not begin anew


def _trained(seed: int) -> nn.Module:
    return build_model("resnet8", 1, 10, seed)
