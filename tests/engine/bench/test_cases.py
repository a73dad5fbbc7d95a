"""What can be asked of the benchmark, and how cases grow."""

from __future__ import annotations

import pytest
import torch

from engine.architectures import is_architecture
from engine.bench.cases import CASES, SUBJECTS, grown, plan
from engine.bench.networks import Setting
from engine.errors import UserError


def test_nothing_said_is_vgg_with_everything() -> None:
    asked = plan()
    assert [case.name for case in asked.cases] == ["vgg"]
    assert asked.subjects == tuple(SUBJECTS)


def test_cases_are_given_once_and_all_are_those_that_are_published() -> None:
    assert [case.name for case in plan(["resnet", "all", "resnet"]).cases] == ["resnet", "vgg", "imagenet"]
    assert plan(only=["student,naive", "cached"]).subjects == ("naive", "cached", "student")


def test_one_size_grows_at_a_time() -> None:
    first, *others = grown(CASES["resnet"])
    assert first == CASES["resnet"]
    sizes = {"teachers": lambda case: len(case.teachers), "batch": lambda case: case.batch, "classes": lambda case: case.classes}
    for case in others:
        changed = [name for name, size in sizes.items() if size(case) != size(first)]
        assert changed == [case.varied]
        assert case.buffer >= case.batch
    assert {len(case.teachers) for case in others} >= {2, 8}
    assert {case.batch for case in others} >= {32, 512}
    assert {case.classes for case in others} >= {10, 1000}


def test_a_median_of_few_is_refused() -> None:
    with pytest.raises(UserError, match="--rounds is 3"):
        plan(rounds=3)


def test_torchvision_networks_give_their_last_map() -> None:
    student = Setting(CASES["imagenet"], torch.device("cpu")).student()
    logits, features = student(torch.zeros(2, 3, 64, 64))
    assert logits.shape == (2, 1000)
    assert features.shape == (2, 512, 2, 2)
    torch.testing.assert_close(logits, student.network.fc(features.mean((2, 3))))


def test_every_network_of_a_case_has_a_name_that_a_preset_may_give() -> None:
    assert all(is_architecture(name) for case in CASES.values() for name in (case.student, *case.teachers))


def test_a_case_that_is_not_known_is_told_those_that_are() -> None:
    with pytest.raises(UserError, match=r"--case Image-Net: there is no such case; one of vgg, resnet, imagenet, tiny, all"):
        plan(["Image-Net"])
