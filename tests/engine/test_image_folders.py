"""A user's own pictures: what is found in a folder, how it is split, and what is refused with the remedy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from support import picture_sets as sets
from support.presets import tiny

from engine.data import load_images
from engine.errors import UserError
from engine.image_folders import facts_of, read_folder
from engine.preset import DatasetPart, TrainPart
from engine.teachers.store import content_key

CPU = torch.device("cpu")


def part(root: Path, **settings: object) -> DatasetPart:
    return DatasetPart.model_validate({"name": "imagefolder", "path": str(root), "size": 16} | settings)


@pytest.mark.parametrize("tests", ["test", "val"])
def test_folders_for_training_and_test(tests: str, tmp_path: Path) -> None:
    sets.pictures(tmp_path, {"train": 10, tests: 3}, classes=3)
    found = read_folder(tmp_path, 0)
    assert found.classes == ("class-0", "class-1", "class-2")
    assert found.train.labels == (0,) * 10 + (1,) * 10 + (2,) * 10
    assert found.test.labels == (0,) * 3 + (1,) * 3 + (2,) * 3
    assert all(
        path.startswith(f"{tests}/class-{label}/") for path, label in zip(found.test.paths, found.test.labels, strict=True)
    )
    assert "30 pictures to train on, 9 to test on" in found.said
    images = load_images(part(tmp_path), tmp_path, CPU, 0)
    assert (len(images.train), len(images.validation), len(images.test)) == (27, 3, 9)


def test_a_validation_folder_is_the_validation_split(tmp_path: Path) -> None:
    sets.pictures(tmp_path, {"train": 10, "val": 4, "test": 3})
    images = load_images(part(tmp_path), tmp_path, CPU, 0)
    assert (len(images.train), len(images.validation), len(images.test)) == (20, 8, 6)
    facts = facts_of(part(tmp_path))
    assert (facts.train_images, facts.validation_images, facts.test_images, facts.size) == (20, 8, 6, 16)


def test_one_folder_a_class_is_split_by_its_seed_and_picture_by_picture(tmp_path: Path) -> None:
    sets.pictures(tmp_path, {"": 20}, classes=2)
    found = read_folder(tmp_path, 0)
    assert (len(found.train), len(found.test)) == (32, 8)
    assert found.test.labels == (0,) * 4 + (1,) * 4
    assert not set(found.train.paths) & set(found.test.paths)
    assert read_folder(tmp_path, 0) == found
    assert set(read_folder(tmp_path, 1).test.paths) != set(found.test.paths)
    # Pictures that are added move no other from one split to the other.
    sets.put(tmp_path / "class-0", {"new.jpg": sets.jpeg(1)})
    more = read_folder(tmp_path, 0)
    assert len(set(found.train.paths) & set(more.test.paths)) + len(set(found.test.paths) & set(more.train.paths)) <= 1


def test_what_is_no_picture_is_passed_over(tmp_path: Path) -> None:
    sets.pictures(tmp_path, {"train": 2, "test": 1})
    sets.put(tmp_path, {"train/class-0/notes.txt": b"x", "train/class-0/.hidden.jpg": b"x", "train/.cache/x.jpg": b"x"})
    sets.put(tmp_path, {"train/class-0/deeper/more.PNG": sets.png(sets.noise(0, 8, 8, 3))})
    assert len(read_folder(tmp_path, 0).train) == 5


def test_no_link_out_of_the_folder_is_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    sets.pictures(root, {"train": 3, "test": 1})
    sets.put(tmp_path / "outside", {"secret.jpg": sets.jpeg(1), "class-9/x.jpg": sets.jpeg(2)})
    (root / "train" / "class-0" / "link.jpg").symlink_to(tmp_path / "outside" / "secret.jpg")
    (root / "train" / "class-0" / "inside.jpg").symlink_to(root / "train" / "class-0" / "000.jpg")
    (root / "train" / "class-1" / "loop").symlink_to(root / "train")
    found = read_folder(root, 0)
    assert found.classes == ("class-0", "class-1")
    assert "train/class-0/inside.jpg" in found.train.paths
    assert len(found.train) == 7
    assert "1 links that lead out of it are passed over" in found.said
    assert "link.jpg" in found.said


@pytest.mark.parametrize("place", ["train/class-9", "train"])
def test_a_class_that_is_a_link_out_of_the_folder_is_told(place: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    sets.pictures(root, {"train": 3, "test": 1})
    there = tmp_path / "elsewhere"
    if place == "train":
        (root / place).rename(there)
    else:
        sets.put(there, {"x.jpg": sets.jpeg(2)})
    (root / place).symlink_to(there)
    with pytest.raises(UserError, match=rf"{place} is a link that leads out of .*; put the folder itself there"):
        read_folder(root, 0)


@pytest.mark.parametrize("names", [("Training", "Testing", "Valid"), ("train", "test", "validation"), ("TRAIN", "Test", "VAL")])
def test_the_splits_have_other_names_too(names: tuple[str, str, str], tmp_path: Path) -> None:
    sets.pictures(tmp_path, dict(zip(names, (10, 3, 4), strict=True)))
    found = read_folder(tmp_path, 0)
    assert found.classes == ("class-0", "class-1")
    assert found.validation is not None
    assert (len(found.train), len(found.test), len(found.validation)) == (20, 6, 8)
    assert facts_of(part(tmp_path)).train_images == 20


def test_a_class_may_be_called_as_a_split(tmp_path: Path) -> None:
    sets.put(tmp_path, {f"{name}/{n}.jpg": sets.jpeg(n) for name in ("test", "work") for n in range(4)})
    assert read_folder(tmp_path, 0).classes == ("test", "work")


def test_class_names_are_made_harmless(tmp_path: Path) -> None:
    sets.put(tmp_path, {f"[red]\x1b[31m{k}/{n}.jpg": sets.jpeg(n) for k in range(2) for n in range(4)})
    images = load_images(part(tmp_path), tmp_path, CPU, 0)
    assert images.facts.classes == ("[red]\\x1b[31m0", "[red]\\x1b[31m1")
    assert len(list(images.test.in_order(2))) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "holds no class folders"),
        ({"cats/a.jpg": b"x"}, "holds 1 class folder"),
        ({"train/cats/a.jpg": b"x", "train/dogs/a.jpg": b"x"}, "neither test nor val"),
        (
            {"train/cats/a.jpg": b"x", "train/dogs/a.jpg": b"x", "test/birds/a.jpg": b"x"},
            "test/birds is of a class that train has not",
        ),
        ({"train/cats/a.jpg": b"x", "train/dogs/a.txt": b"x", "test/cats/a.jpg": b"x"}, "train/dogs holds no picture"),
        ({"cats/a.jpg": b"x", "dogs/a.jpg": b"x"}, "one picture is too few"),
        ({"Testing/cats/a.jpg": b"x", "pictures/cats/a.jpg": b"x"}, "has a folder Testing, but none to train on"),
        ({"train/cats/a.jpg": b"x", "Training/cats/a.jpg": b"x"}, "has the folders Training and train, which mean the same"),
    ],
)
def test_what_cannot_be_split_is_told_with_the_folder(content: dict[str, bytes], said: str, tmp_path: Path) -> None:
    sets.put(tmp_path, content)
    with pytest.raises(UserError, match=said):
        read_folder(tmp_path, 0)
    assert facts_of(part(tmp_path)).classes == ()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*train/<class>"):
        load_images(part(tmp_path / "none"), tmp_path, CPU)


def test_facts_follow_the_folder(tmp_path: Path) -> None:
    sets.pictures(tmp_path, {"train": 3, "test": 1})
    assert facts_of(part(tmp_path)).train_images == 6
    sets.put(tmp_path, {"train/class-0/new.jpg": sets.jpeg(1)})
    assert facts_of(part(tmp_path)).train_images == 7


def test_a_teachers_key_is_of_what_is_in_the_folder(tmp_path: Path) -> None:
    sets.pictures(tmp_path, {"train": 3, "test": 1})

    def key(**settings: object) -> str:
        return content_key(tiny().model_copy(update={"dataset": part(tmp_path, **settings)}), "resnet8", 0, TrainPart(), ranks=1)

    first = key()
    assert key() == first != key(size=32)
    assert key(size=224) != first
    assert key(resize=16) != first == key(resize=18)  # 18 is what 16 pixels are cut from anyway
    sets.put(tmp_path, {"train/class-0/new.jpg": sets.jpeg(1)})
    assert key() != first


def test_a_teachers_key_is_the_same_wherever_the_folder_lies(tmp_path: Path) -> None:
    """Jobs bring pictures to a disk of their own."""
    sets.pictures(tmp_path / "one", {"train": 3, "test": 1})
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    sets.pictures(tmp_path / "unlike", {"train": 3, "test": 1})
    for path in (tmp_path / "unlike").rglob("*.jpg"):
        path.write_bytes(sets.jpeg(7, 40, 40))

    def key(name: str) -> str:
        return content_key(tiny().model_copy(update={"dataset": part(tmp_path / name)}), "resnet8", 0, TrainPart(), ranks=1)

    assert key("one") == key("two") != key("unlike")


def test_settings_that_a_data_set_does_not_use_change_no_key() -> None:
    """Teachers of earlier releases are found again."""
    key = content_key(tiny().model_copy(update={"dataset": DatasetPart(name="digits")}), "resnet8", 0, TrainPart(), ranks=1)
    assert key == "e35513abe5fb213a"


def test_a_display_does_not_wait_for_a_folder_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine import image_folders

    sets.pictures(tmp_path, {"train": 3, "test": 1})
    monkeypatch.setattr(image_folders, "PATIENCE", -1.0)
    assert facts_of(part(tmp_path)).classes == ()
    monkeypatch.setattr(image_folders, "PATIENCE", 60.0)
    assert len(facts_of(part(tmp_path)).classes) == 2
