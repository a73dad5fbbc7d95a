"""Teachers are trained once, found again, and trained anew where what was kept cannot be used."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.classroom import (
    DATASET,
    PHASE,
    PRESET,
    RECIPE,
    another_run_is_first,
    classroom,
    few_digits,
    other_bits,
)
from support.refusal import refused

from engine.data.images import LEFT_OUT
from engine.errors import UserError
from engine.events import EpochEnded, Event, Log
from engine.measure import logits_of, measured
from engine.models import build_model
from engine.preset import EvaluatePart, Preset, TeacherPart
from engine.ranks import ALONE
from engine.teachers.shared_store import SpareStore
from engine.teachers.store import TeacherStore
from engine.teachers.train import Classroom, Trained
from engine.teachers.weights import pack, unpack

PART = TeacherPart(arch="resnet8", seed=0, train=RECIPE)


def assert_same_network(one: Trained, other: Trained) -> None:
    assert one.key == other.key
    assert one.accuracy == other.accuracy
    assert torch.equal(one.logits, other.logits)
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name])


def test_trained_once_then_found(tmp_path: Path) -> None:
    events: list[Event] = []
    first = classroom(tmp_path, events).teacher(PART, PHASE)
    assert first.source == "trained"
    assert any(isinstance(event, EpochEnded) for event in events)
    again: list[Event] = []
    second = classroom(tmp_path, again).teacher(PART, PHASE)
    assert second.source == "store"
    assert not any(isinstance(event, EpochEnded) for event in again)
    assert_same_network(first, second)


def test_torchvisions_mnasnet_is_trained_once_then_found(tmp_path: Path) -> None:
    """Its code asks for more than names and tensors where weights are loaded: a best epoch's, and the store's."""
    part = TeacherPart(arch="torchvision:mnasnet0_5", train=RECIPE.model_copy(update={"lr": 1e-4}))
    first, second = (classroom(tmp_path).teacher(part, PHASE) for _ in range(2))
    assert (first.source, second.source) == ("trained", "store")
    assert_same_network(first, second)


def test_the_facts(tmp_path: Path) -> None:
    teacher = classroom(tmp_path).teacher(PART, PHASE)
    (entry,) = TeacherStore(tmp_path).entries()
    facts = entry.facts
    assert entry.key == teacher.key
    assert (facts["arch"], facts["seed"]) == ("resnet8", 0)
    assert facts["dataset"] == DATASET.model_dump(mode="json")
    assert facts["recipe"] == RECIPE.model_dump(mode="json")
    test = few_digits().test
    assert facts["accuracy"] == teacher.accuracy == measured(logits_of(teacher.model, test, 512), test.labels).accuracy
    assert facts["parameters"] == sum(parameter.numel() for parameter in teacher.model.parameters())
    assert facts.keys() >= {"version", "torch", "created", "device", "seconds", "chosen_on", "chosen_accuracy", "best_epoch"}


@pytest.mark.parametrize("damage", ["weights", "facts", "other network"])
def test_what_cannot_be_used_is_trained_anew(damage: str, tmp_path: Path) -> None:
    first = classroom(tmp_path).teacher(PART, PHASE)
    store = TeacherStore(tmp_path)
    (entry,) = store.entries()
    if damage == "other network":
        store.remove(entry)
        store.add(entry.key, pack(build_model("resnet14", 1, 10).state_dict()), entry.facts)
    else:
        name = {"weights": "weights.safetensors", "facts": "facts.json"}[damage]
        (entry.path / name).write_bytes((entry.path / name).read_bytes()[:-9])
    events: list[Event] = []
    second = classroom(tmp_path, events).teacher(PART, PHASE)
    assert second.source == "trained"
    assert_same_network(first, second)
    (aside,) = tmp_path.glob(".*.damaged")
    (warning,) = [event for event in events if isinstance(event, Log) and str(aside) in event.message]
    assert warning.level == "warning"
    assert warning.message.endswith("and trained anew")
    third = classroom(tmp_path).teacher(PART, PHASE)
    assert third.source == "store"
    assert_same_network(first, third)


def test_a_store_that_cannot_be_written_costs_no_training(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where the store should be")
    events: list[Event] = []
    assert classroom(tmp_path / "store", events).teacher(PART, PHASE).source == "trained"
    (warning,) = [e for e in events if isinstance(e, Log) and str(tmp_path / "store") in e.message]
    assert warning.level == "warning"


def of_a_run(tmp_path: Path, events: list[Event] | None = None) -> Classroom:
    """Of a run in `run`, which can keep nothing in the store."""
    (tmp_path / "store").write_text("a file where the store should be")
    return replace(classroom(tmp_path / "store", events), spare=SpareStore(tmp_path / "run" / "teachers", ALONE))


def test_what_the_store_does_not_take_is_kept_in_the_runs_folder_and_found_there_first(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    room = of_a_run(tmp_path, events := [])
    first = room.teacher(PART, PHASE)
    (entry,) = TeacherStore(tmp_path / "run" / "teachers").entries()
    (warning,) = [event.message for event in events if isinstance(event, Log) and "could not be kept" in event.message]
    assert warning.endswith(f"this run keeps it as {entry.path}")
    # The store takes teachers again, and another run has kept this one there, in other bits.
    (tmp_path / "store").unlink()
    room.store.add(entry.key, other_bits((entry.path / "weights.safetensors").read_bytes()), {})
    second = room.teacher(PART, PHASE)
    assert second.source == "store"
    assert_same_network(first, second)
    planned, known = room.as_planned(PART)
    assert known
    assert_same_network(first, replace(first, model=planned))


@pytest.mark.parametrize("trouble", ["gone", "link", "full"])
def test_a_teacher_that_nothing_takes_is_told(trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    if trouble != "gone":
        run.mkdir()
    if trouble == "link":
        (run / "teachers").symlink_to(elsewhere)
    elif trouble == "full":
        refused(monkeypatch, "mkdir", run / "teachers", errno.ENOSPC)
    teacher = of_a_run(tmp_path, events := []).teacher(PART, PHASE)
    assert teacher.source == "trained"
    (warning,) = [event.message for event in events if isinstance(event, Log) and "could not be kept" in event.message]
    assert warning.endswith("once stopped, this run would have to begin anew")
    assert (run.exists(), list(elsewhere.iterdir())) == (trouble != "gone", [])


def test_where_another_run_has_kept_the_same_meanwhile_its_weights_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run will be given those; its checkpoints are of no others."""
    another_run_is_first(monkeypatch)
    teacher = classroom(tmp_path, events := []).teacher(PART, PHASE)
    (entry,) = TeacherStore(tmp_path).entries()
    assert entry.facts["who"] == "another"
    assert any(isinstance(event, EpochEnded) for event in events)
    kept = unpack((entry.path / "weights.safetensors").read_bytes())
    assert all(torch.equal(value, kept[name]) for name, value in teacher.model.state_dict().items())
    assert torch.equal(teacher.logits, logits_of(teacher.model, few_digits().test, 512))
    assert sum(isinstance(event, Log) and event.level == "info" and PHASE.label in event.message for event in events) == 1
    assert teacher.source == "store"
    assert_same_network(teacher, classroom(tmp_path).teacher(PART, PHASE))


def test_where_another_run_came_to_the_same_bits_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.classroom.other_bits", lambda weights: weights)
    another_run_is_first(monkeypatch)
    teacher = classroom(tmp_path, events := []).teacher(PART, PHASE)
    assert teacher.source == "trained"
    assert not [event for event in events if isinstance(event, Log) and event.level == "info"]


def test_a_checkpoint(tmp_path: Path) -> None:
    network = build_model("resnet8", 1, 10, 3)
    torch.save(network.state_dict(), tmp_path / "t.pth")
    part = TeacherPart(arch="resnet8", checkpoint=str(tmp_path / "t.pth"))
    room = replace(classroom(tmp_path / "store"), preset=preset())
    teacher = room.teacher(part, PHASE)
    assert (teacher.source, teacher.key) == ("checkpoint", None)
    assert torch.equal(teacher.logits, logits_of(network, few_digits().test, 512))
    assert not (tmp_path / "store").exists()


def test_a_checkpoint_with_averages_is_told_in_the_log(tmp_path: Path) -> None:
    network = build_model("resnet8", 1, 10, 3)
    path = tmp_path / "t.pth"
    torch.save({"model": build_model("resnet8", 1, 10, 4).state_dict(), "model_ema": network.state_dict()}, path)
    events: list[Event] = []
    room = replace(classroom(tmp_path / "store", events), preset=preset())
    teacher = room.teacher(TeacherPart(arch="resnet8", checkpoint=str(path)), PHASE)
    assert torch.equal(teacher.logits, logits_of(network, few_digits().test, 512))
    (said,) = [event for event in events if isinstance(event, Log)]
    assert said.level == "info"
    assert said.message.startswith(f"{path}: its averaged weights (model_ema) are taken")


def test_a_checkpoint_of_images_of_another_normalisation_is_told_in_the_log(tmp_path: Path) -> None:
    """Of the architectures whose library's own weights are not of ImageNet's; nobody knows what this file's owner did."""
    room = replace(classroom(tmp_path / "store", events := []), preset=preset())
    for arch in ("timm:vit_tiny_patch16_224", "torchvision:squeezenet1_1"):
        path = tmp_path / f"{arch[:4]}.pth"
        torch.save(build_model(arch, 1, 10, size=8).state_dict(), path)
        room.teacher(TeacherPart(arch=arch, checkpoint=str(path)), PHASE)
    (told,) = [event for event in events if isinstance(event, Log)]
    here = few_digits().normalised.words()
    assert told.level == "info"
    assert told.message == (
        f"{tmp_path}/timm.pth: the weights that its library publishes for timm:vit_tiny_patch16_224 are of pixels in 0 to 1, "
        f"less 0.5, 0.5, 0.5, divided by 0.5, 0.5, 0.5, and here they are {here}: a file does not say by which of the two it was "
        "trained"
    )


def test_a_checkpoint_whose_answers_are_not_numbers(tmp_path: Path) -> None:
    state = build_model("resnet8", 1, 10, 3).state_dict()
    state["bn1.running_var"].fill_(-1.0)  # finite, but its root is not
    torch.save(state, tmp_path / "t.pth")
    with pytest.raises(UserError, match=r"t\.pth.*not all finite"):
        classroom(tmp_path / "store").teacher(TeacherPart(arch="resnet8", checkpoint=str(tmp_path / "t.pth")), PHASE)


def test_weights_that_share_memory_are_packed() -> None:
    base = torch.arange(12.0).view(3, 4)
    found = unpack(pack({"a": base, "b": base[1:], "c": base.T}))
    assert torch.equal(found["b"], base[1:])
    assert torch.equal(found["c"], base.T)


def preset(*teachers: TeacherPart) -> Preset:
    """As the classroom's, with teachers that may be weak."""
    return PRESET.model_copy(update={"teachers": teachers, "evaluate": EvaluatePart(accept_weak_teachers=True)})


def test_broken_pictures_are_no_class(tmp_path: Path) -> None:
    """Else the more of them there are, the better a teacher would have to be."""
    images = few_digits()
    labels = images.test.labels.clone()
    labels[: len(labels) // 2] = LEFT_OUT
    largest = labels[labels != LEFT_OUT].bincount().max().item() / (labels != LEFT_OUT).sum().item()
    torch.save(build_model("resnet8", 1, 10).state_dict(), tmp_path / "t.pth")
    room = replace(classroom(tmp_path), images=replace(images, test=replace(images.test, labels=labels)))
    with pytest.raises(UserError, match=f"always naming the largest class gives {100 * largest:.1f} %"):
        room.teacher(TeacherPart(arch="resnet8", checkpoint=str(tmp_path / "t.pth")), PHASE)
