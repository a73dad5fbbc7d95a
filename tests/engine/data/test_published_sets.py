"""Each published data set, read from files in the very format of its publisher."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import fashion_files
from support import picture_sets as sets
from torchvision.datasets import CIFAR10, CIFAR100

from engine.data import fetch_files, load_images
from engine.data.augment import Augmentation
from engine.data.check import check
from engine.data.load import read_pictures
from engine.data.stl10 import Labelled
from engine.errors import UserError
from engine.paths import cache_dir
from engine.preset import DatasetPart

CPU = torch.device("cpu")


def known_sums(monkeypatch: pytest.MonkeyPatch, kind: type, content: dict[str, bytes]) -> None:
    """Makes these files what torchvision takes for the publisher's."""
    sums = {Path(name).name: sets.md5(data) for name, data in content.items()}
    for attribute in ("train_list", "test_list"):
        monkeypatch.setattr(kind, attribute, [[name, sums[name]] for name, _ in getattr(kind, attribute)])
    if hasattr(kind, "meta"):
        monkeypatch.setattr(kind, "meta", kind.meta | {"md5": sums[kind.meta["filename"]]})


def assert_split(name: str, root: Path, train: np.ndarray, test: np.ndarray, validation: int) -> None:
    images = load_images(DatasetPart(name=name), root, CPU)
    assert (len(images.train), len(images.validation), len(images.test)) == (len(train) - validation, validation, len(test))
    assert np.array_equal(images.test.pixels.numpy(), test)  # type: ignore[attr-defined]
    both = {p.tobytes() for split in (images.train, images.validation) for p in split.pixels.numpy()}  # type: ignore[attr-defined]
    assert both == {p.tobytes() for p in train}


@pytest.mark.parametrize(("name", "kind", "make"), [("cifar-10", CIFAR10, sets.cifar10), ("cifar-100", CIFAR100, sets.cifar100)])
def test_cifar(
    name: str, kind: type, make: Callable[[], dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = make()
    known_sums(monkeypatch, kind, content)
    sets.put(tmp_path / name, content)
    if name == "cifar-10":
        train = np.concatenate([sets.noise(k, 6, 3072) for k in range(1, 6)])
        test = sets.noise(9, 10, 3072)
    else:
        train, test = sets.noise(1, 30, 3072), sets.noise(2, 10, 3072)
    assert_split(name, tmp_path, train.reshape(-1, 3, 32, 32), test.reshape(-1, 3, 32, 32), 3)
    images = load_images(DatasetPart(name=name), tmp_path, CPU)
    assert images.test.labels.tolist() == list(range(10))
    assert images.train.mean.flatten().tolist() == pytest.approx([255 * m for m in images.facts.mean or ()])
    with_changed = dict(content)
    first = next(iter(content))
    with_changed[first] = content[first][:-1] + b"!"
    sets.put(tmp_path / name, with_changed)
    with pytest.raises(UserError, match="is not the publisher's file") as caught:
        load_images(DatasetPart(name=name), tmp_path, CPU)
    assert str(tmp_path / name / first) in str(caught.value)


def test_stl10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = sets.stl10()
    known_sums(monkeypatch, Labelled, content)
    sets.put(tmp_path, content)  # without the unlabelled images
    # The publisher's images are stored column by column: torchvision transposes them.
    train, test = (sets.noise(n, n, 3, 96, 96).transpose(0, 1, 3, 2) for n in (20, 8))
    assert_split("stl-10", tmp_path, train, test, 2)
    assert load_images(DatasetPart(name="stl-10"), tmp_path, CPU).test.labels.tolist() == list(range(8))


@pytest.mark.parametrize("place", ["MNIST/raw", "mnist"])
def test_mnist_is_no_fashion(place: str, tmp_path: Path) -> None:
    content = fashion_files.write(tmp_path / place, packed=place == "mnist")
    images = load_images(DatasetPart(name="mnist"), tmp_path, CPU)
    assert np.array_equal(images.test.pixels[:, 0].numpy(), content["t10k-images-idx3-ubyte"])  # type: ignore[attr-defined]
    assert images.augmentation == Augmentation(2, flip=False)
    assert images.facts.augmentation == "shift by up to 2 pixels"
    with pytest.raises(UserError, match="mmkd data fetch mnist"):
        load_images(DatasetPart(name="mnist"), tmp_path / "MNIST", CPU)


def test_tiny_imagenet_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = sets.tiny_imagenet()
    sets.put(tmp_path, content)
    test = [
        np.asarray(Image.open(io.BytesIO(content[f"tiny-imagenet-200/val/images/val_{k}.JPEG"])).convert("RGB")) for k in range(6)
    ]
    train = [
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for name, data in content.items() if "/train/" in name and data
    ]
    expected = (np.stack(train).transpose(0, 3, 1, 2), np.stack(test).transpose(0, 3, 1, 2))
    assert_split("tiny-imagenet", tmp_path, *expected, 1)
    images = load_images(DatasetPart(name="tiny-imagenet"), tmp_path, CPU)
    assert images.facts.classes == ("Egyptian cat", "goldfish", "reel")  # in the order of wnids.txt
    assert images.test.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert len(list(cache_dir().rglob("*.npy"))) == 2
    monkeypatch.setattr("engine.data.tiny_imagenet.decode_patiently", None)  # it is not asked again
    assert_split("tiny-imagenet", tmp_path, *expected, 1)


def test_a_changed_or_broken_picture_of_tiny_imagenet_is_seen(tmp_path: Path) -> None:
    content = sets.tiny_imagenet()
    sets.put(tmp_path, content)
    load_images(DatasetPart(name="tiny-imagenet"), tmp_path, CPU)
    path = tmp_path / "tiny-imagenet-200" / "val" / "images" / "val_3.JPEG"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match=r"val_3\.JPEG cannot be read"):
        load_images(DatasetPart(name="tiny-imagenet"), tmp_path, CPU)
    path.write_bytes(sets.jpeg(1, 32, 32))
    with pytest.raises(UserError, match=r"val_3\.JPEG has 32x32 pixels, not 64x64"):
        load_images(DatasetPart(name="tiny-imagenet"), tmp_path, CPU)


def listed(name: str, root: Path) -> tuple[tuple[str, ...], dict[str, int], dict[str, int]]:
    found = read_pictures(DatasetPart(name=name), root)
    train, test = (dict(zip(part.paths, part.labels, strict=True)) for part in (found.train, found.test))
    for path in (*train, *test):
        assert (found.root / path).is_file()
    return found.classes, train, test


def test_stanford_dogs(tmp_path: Path) -> None:
    images, lists = sets.stanford_dogs()
    sets.put(tmp_path / "stanford-dogs", images | lists)
    classes, train, test = listed("stanford-dogs", tmp_path)
    assert classes == ("Chihuahua", "Japanese spaniel")
    assert [list(train.values()), list(test.values())] == [[0] * 4 + [1] * 4, [0, 0, 1, 1]]
    assert all(("Chihuahua" in path) == (label == 0) for path, label in (train | test).items())
    (tmp_path / "stanford-dogs" / "test_list.mat").write_bytes(b"no MATLAB")
    with pytest.raises(UserError, match=r"test_list\.mat cannot be read"):
        listed("stanford-dogs", tmp_path)


def test_cub200(tmp_path: Path) -> None:
    content = sets.cub200()
    sets.put(tmp_path, content)
    classes, train, test = listed("cub-200", tmp_path)
    assert classes == ("Black footed Albatross", "Laysan Albatross")
    assert (list(train.values()), list(test.values())) == ([0] * 3 + [1] * 3, [0, 0, 1, 1])
    path = tmp_path / "CUB_200_2011" / "images.txt"
    path.write_bytes(content["CUB_200_2011/images.txt"].replace(b"7 002.Laysan_Albatross/", b"7 ../../"))
    with pytest.raises(UserError, match=r"images\.txt:7: .* is not below"):
        listed("cub-200", tmp_path)


def test_mit67(tmp_path: Path) -> None:
    content = sets.mit67()
    sets.put(tmp_path / "mit-67", content)
    classes, train, test = listed("mit-67", tmp_path)
    assert classes == ("airport inside", "bakery")
    assert (list(train.values()), list(test.values())) == ([0] * 3 + [1] * 3, [0, 1])
    sets.put(tmp_path / "mit-67", {"TestImages.txt": b"/etc/passwd\n"})
    with pytest.raises(UserError, match=r"TestImages\.txt:1: /etc/passwd is not below"):
        listed("mit-67", tmp_path)


def test_imagenets_archives_become_torchvisions_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = sets.imagenet()
    sets.published_as("imagenet", monkeypatch, archives)
    folder = tmp_path / "imagenet"
    with pytest.raises(UserError, match=r"needs ImageNet's terms of access.*ILSVRC2012_img_train\.tar"):
        fetch_files("imagenet", tmp_path, lambda progress: None)
    sets.put(folder, archives)
    with pytest.raises(UserError, match="unpack them with mmkd data fetch imagenet"):
        listed("imagenet", tmp_path)
    assert fetch_files("imagenet", tmp_path, lambda progress: None) == folder
    classes, train, test = listed("imagenet", tmp_path)
    assert classes == ("tench", "goldfish")  # by WordNet number
    assert list(train.values()) == [0, 0, 0, 1, 1, 1]
    # The devkit's first class is goldfish, and the first picture of val is of it.
    assert test == {
        "val/n01440764/ILSVRC2012_val_00000002.JPEG": 0,
        "val/n01440764/ILSVRC2012_val_00000003.JPEG": 0,
        "val/n01443537/ILSVRC2012_val_00000001.JPEG": 1,
        "val/n01443537/ILSVRC2012_val_00000004.JPEG": 1,
    }
    assert sorted(path.name for path in folder.iterdir()) == sorted([*archives, "meta.bin", "train", "val"])
    from torchvision.datasets import ImageNet

    theirs = ImageNet(str(folder), split="val")
    assert [label for _, label in theirs.samples] == list(test.values())
    assert [names[0] for names in theirs.classes] == list(classes)


def test_imagenet_without_names_or_with_other_classes(tmp_path: Path) -> None:
    sets.put(tmp_path / "imagenet", {f"{part}/{wnid}/x.JPEG": sets.jpeg(1) for part in ("train", "val") for wnid in ("n1", "n2")})
    assert listed("imagenet", tmp_path)[0] == ("n1", "n2")
    (tmp_path / "imagenet" / "val" / "n2").rename(tmp_path / "imagenet" / "val" / "n3")
    with pytest.raises(UserError, match="not the same ones"):
        listed("imagenet", tmp_path)


def test_check_counts_and_names_what_is_broken(tmp_path: Path) -> None:
    content = sets.cub200()
    broken = next(name for name in content if name.endswith("Laysan_Albatross_0001.jpg"))
    sets.put(tmp_path, content | {broken: content[broken][:300]})
    found = check(DatasetPart(name="cub-200"), tmp_path, lambda progress: None)
    assert found.splits == {"train": (3, 2), "test": (2, 2)}
    assert [file for file, _ in found.broken] == [str(tmp_path / broken)]
    assert any("the publisher has 5,994" in note for note in found.notes)


def test_check_names_every_broken_picture_of_tiny_imagenet(tmp_path: Path) -> None:
    content = sets.tiny_imagenet()
    bad = [name for name in content if name.endswith(("val_1.JPEG", "n02124075_2.JPEG"))]
    sets.put(tmp_path, content | {name: content[name][:100] for name in bad})
    found = check(DatasetPart(name="tiny-imagenet"), tmp_path, lambda progress: None)
    assert sorted(file for file, _ in found.broken) == sorted(str(tmp_path / name) for name in bad)
    assert found.splits == {"train": (3, 4, 4), "test": (2, 1, 2)}  # those that can be read


def test_check_says_which_file_is_not_the_publishers(tmp_path: Path) -> None:
    sets.put(tmp_path, sets.cifar100())
    found = check(DatasetPart(name="cifar-100"), tmp_path, lambda progress: None)
    ((_, why),) = found.broken
    assert "cifar-100-python/train is not the publisher's file" in why


@pytest.mark.parametrize("name", ["cifar-100", "stl-10", "tiny-imagenet", "stanford-dogs", "cub-200", "mit-67", "mnist"])
def test_what_is_missing_is_told_with_the_remedy(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_images(DatasetPart(name=name), tmp_path, CPU)
    said = str(caught.value)
    assert f"mmkd data fetch {name}" in said
    assert str(tmp_path / name) in said or name == "mnist"
    assert "\n" not in said
