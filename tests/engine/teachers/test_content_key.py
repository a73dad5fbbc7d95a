"""The content key: another one for everything that changes the weights, the same one for the same recipe in other words."""

from __future__ import annotations

from typing import Any

import pytest
from support.presets import tiny

from engine.preset import DatasetPart, EvaluatePart, HardwarePart, TrainPart
from engine.teachers.store import content_key

BASE: dict[str, dict[str, Any]] = {
    "dataset": {"name": "digits"},
    "recipe": {"epochs": 240},
    "evaluate": {},
    "rest": {"arch": "vgg8", "seed": 0, "precision": "auto", "ranks": 1, "pretrained": False},
}
# For each field, a value that is not its default.
OTHERS: dict[str, dict[str, Any]] = {
    "dataset": {"name": "fashion-mnist", "validation_fraction": 0.2, "train_images": 100, "split_seed": 1},
    "recipe": {
        "epochs": 241,
        "batch_size": 65,
        "lr": 0.06,
        "momentum": 0.8,
        "nesterov": False,
        "weight_decay": 1e-4,
        "milestones": (100,),
        "lr_decay": 0.2,
        "augment": False,
        "label_noise": 0.4,
    },
    "evaluate": {"select_on": "test", "every": 2},
    "rest": {"arch": "vgg13", "seed": 1, "precision": "bf16", "ranks": 2, "pretrained": True},
}
EVERY = [(part, name) for part, fields in OTHERS.items() for name in fields]


def key(**changes: dict[str, Any]) -> str:
    asked = {part: fields | changes.get(part, {}) for part, fields in BASE.items()}
    rest = asked["rest"]
    parts = {
        "dataset": DatasetPart(**asked["dataset"]),
        "evaluate": EvaluatePart(**asked["evaluate"]),
        "hardware": HardwarePart(precision=rest["precision"]),
    }
    preset = tiny().model_copy(update=parts)
    return content_key(
        preset, rest["arch"], rest["seed"], TrainPart(**asked["recipe"]), ranks=rest["ranks"], pretrained=rest["pretrained"]
    )


def test_form() -> None:
    assert len(key()) == 16
    assert set(key()) <= set("0123456789abcdef")


def test_it_is_the_one_that_stores_have() -> None:
    assert key() == "79fb8bbccf5f8ce5"
    assert key(recipe={"label_noise": 0.0}) == key()


def test_no_field_is_forgotten() -> None:
    # Those four are of pictures in files: tests/engine/test_image_folders.py and test_shard_run.py have some.
    assert OTHERS["dataset"].keys() | {"path", "size", "resize", "shuffle"} == DatasetPart.model_fields.keys()
    assert OTHERS["recipe"].keys() == TrainPart.model_fields.keys()


@pytest.mark.parametrize(("part", "name"), EVERY, ids=[name for _, name in EVERY])
def test_everything_that_matters_changes_the_key(part: str, name: str) -> None:
    assert key(**{part: {name: OTHERS[part][name]}}) != key()


def test_no_two_changes_have_one_key() -> None:
    keys = {key(**{part: {name: OTHERS[part][name]}}) for part, name in EVERY}
    assert len(keys) == len(EVERY)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"milestones": (150, 180, 210)}),
        ({"epochs": 20}, {"epochs": 20, "milestones": TrainPart(epochs=20).decay_epochs}),
        ({}, {"lr": 0.05, "momentum": 0.9}),
        ({"lr": 1}, {"lr": 1.0}),
        ({"milestones": (100,)}, {"milestones": (100, 240, 300)}),
        ({"milestones": ()}, {"milestones": (500,)}),
        ({"milestones": (), "lr_decay": 0.1}, {"milestones": (), "lr_decay": 0.5}),
    ],
    ids=[
        "default milestones",
        "of fewer epochs",
        "defaults said",
        "whole number",
        "after the end",
        "all after the end",
        "no cut",
    ],
)
def test_the_same_recipe_in_other_words(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert key(recipe=one) == key(recipe=other)


def test_the_batch_size_of_measuring_does_not_matter() -> None:
    assert key(evaluate={"batch_size": 7, "student_alone": False}) == key()
