"""Fashion-MNIST in each of the places and forms in which it may lie, and every way in which its files may be wrong."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import fashion_files
from support import picture_sets as sets
from torchvision.datasets import FashionMNIST

from engine.catalog import DATASETS
from engine.data import fetch_files, load_images
from engine.data.check import check
from engine.data.fashion_mnist import read
from engine.errors import UserError
from engine.paths import cache_dir
from engine.preset import DatasetPart

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture(autouse=True)
def _no_system_package(monkeypatch: pytest.MonkeyPatch) -> None:
    fashion_files.forget_system_package(monkeypatch)


def assert_reads(root: Path, content: dict[str, np.ndarray]) -> None:
    for part, (images, labels) in zip(("train", "t10k"), read(root), strict=True):
        assert images.dtype == torch.uint8
        assert labels.dtype == torch.int64
        assert np.array_equal(images.numpy(), content[f"{part}-images-idx3-ubyte"][:, None])
        assert np.array_equal(labels.numpy(), content[f"{part}-labels-idx1-ubyte"])


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "unpacked"])
@pytest.mark.parametrize("place", ["FashionMNIST/raw", "fashion-mnist", "."])
def test_read_from_every_place(place: str, packed: bool, tmp_path: Path) -> None:
    content = fashion_files.write(tmp_path / place, packed)
    assert_reads(tmp_path, content)
    assert_reads(tmp_path, content)


def test_what_is_in_torchvisions_layout_is_not_copied(tmp_path: Path) -> None:
    fashion_files.write(tmp_path / "FashionMNIST" / "raw", packed=False)
    read(tmp_path)
    assert not cache_dir().exists()


def test_changed_files_are_unpacked_again(tmp_path: Path) -> None:
    fashion_files.write(tmp_path, packed=True)
    read(tmp_path)
    changed = fashion_files.arrays(train=20)
    fashion_files.write(tmp_path, True, changed)
    for path in tmp_path.glob("*.gz"):
        os.utime(path, (1, 1))  # older than our copy, as files that a package brings are
    assert_reads(tmp_path, changed)


def test_two_roots_do_not_share_a_copy(tmp_path: Path) -> None:
    first = fashion_files.write(tmp_path / "a", packed=True)
    second = fashion_files.write(tmp_path / "b", True, fashion_files.arrays(train=20))
    assert_reads(tmp_path / "a", first)
    assert_reads(tmp_path / "b", second)
    assert_reads(tmp_path / "a", first)


def test_a_damaged_copy_in_the_cache_is_made_anew(tmp_path: Path) -> None:
    content = fashion_files.write(tmp_path, packed=True)
    read(tmp_path)
    (copy,) = cache_dir().rglob(IMAGES)
    stamp = copy.stat().st_mtime_ns
    copy.write_bytes(copy.read_bytes()[:100])
    os.utime(copy, ns=(stamp, stamp))
    with pytest.raises(UserError, match=IMAGES):
        read(tmp_path)
    assert_reads(tmp_path, content)


def test_splits(tmp_path: Path) -> None:
    fashion_files.write(tmp_path, packed=True)
    images = load_images(DatasetPart(name="fashion-mnist"), tmp_path, torch.device("cpu"))
    assert (len(images.train), len(images.validation), len(images.test)) == (36, 4, 10)
    batch = next(images.train.in_order(36)).images
    assert batch.shape == (36, 1, 28, 28)
    assert batch.mean().item() == pytest.approx(0, abs=1e-5)
    assert batch.std().item() == pytest.approx(1, abs=1e-5)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    for part in (str(tmp_path), "mmkd data fetch fashion-mnist", f"{LABELS}.gz", str(tmp_path / "fashion-mnist")):
        assert part in str(caught.value)


def test_one_file_missing_is_missing(tmp_path: Path) -> None:
    fashion_files.write(tmp_path, packed=True)
    (tmp_path / f"{LABELS}.gz").unlink()
    with pytest.raises(UserError, match="is not in"):
        read(tmp_path)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def changed_byte(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes((data[middle] ^ 0x40,)) + data[middle + 1 :]


WRONG_FILES: dict[str, Callable[[bytes], bytes]] = {
    "truncated gzip": lambda data: cut(gzip.compress(data)),
    "damaged gzip": lambda data: changed_byte(gzip.compress(data)),
    "no gzip": lambda data: data,
    "no gzip at all": lambda data: b"<html>not found</html>",
    "empty": lambda data: b"",
    "empty inside": lambda data: gzip.compress(b""),
    "wrong magic": lambda data: gzip.compress(b"\x00\x00\x0d\x03" + data[4:]),
    "header cut": lambda data: gzip.compress(data[:7]),
    "truncated idx": lambda data: gzip.compress(cut(data)),
    "more than the header says": lambda data: gzip.compress(data + b"\0"),
    "size beyond measure": lambda data: gzip.compress(data[:4] + b"\xff" * 12 + data[16:]),
}


@pytest.mark.parametrize("how", WRONG_FILES)
@pytest.mark.parametrize("name", [IMAGES, "t10k-labels-idx1-ubyte"])
def test_a_wrong_file_is_named(how: str, name: str, tmp_path: Path) -> None:
    content = fashion_files.write(tmp_path, packed=True)
    path = tmp_path / f"{name}.gz"
    path.write_bytes(WRONG_FILES[how](fashion_files.idx(content[name])))
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()
    fashion_files.write(tmp_path, True, content)
    assert_reads(tmp_path, content)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    fashion_files.write(tmp_path, packed=True)
    (tmp_path / f"{IMAGES}.gz").write_bytes(gzip.compress(bytes(65 << 20)))
    with pytest.raises(UserError, match="more than 64 MB"):
        read(tmp_path)
    assert not list(cache_dir().rglob("*images*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({LABELS: np.zeros(39)}, "holds 40 images, but .* 39 labels"),
        ({IMAGES: np.zeros((40, 32, 32))}, "32x32 pixels, not 28x28"),
        ({IMAGES: np.zeros((40, 28, 30))}, "28x30 pixels, not 28x28"),
        ({IMAGES: np.zeros((0, 28, 28)), LABELS: np.zeros(0)}, "no images"),
        ({LABELS: np.full(40, 10)}, "labels above 9"),
        ({IMAGES: np.zeros((40, 784))}, "3 dimensions"),
    ],
)
@pytest.mark.parametrize("packed", [True, False], ids=["gz", "unpacked"])
def test_files_that_do_not_agree(change: dict[str, np.ndarray], message: str, packed: bool, tmp_path: Path) -> None:
    fashion_files.write(tmp_path / "FashionMNIST" / "raw", packed, fashion_files.arrays() | change)
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path)
    assert str(tmp_path / "FashionMNIST" / "raw" / next(iter(change))) in str(caught.value)


def test_torchvisions_old_folder_is_not_believed(tmp_path: Path) -> None:
    fashion_files.write(tmp_path / "FashionMNIST" / "raw", packed=False)
    processed = tmp_path / "FashionMNIST" / "processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(3, 28, 28, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)), processed / name)
    with pytest.raises(UserError, match="processed"):
        read(tmp_path)


def test_fetch_goes_on_where_it_broke_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = fashion_files.archives()
    sets.put(tmp_path / "site", files)
    with sets.served(tmp_path / "site", monkeypatch, cut=(1000,)) as (url, handler):
        sets.published_as("fashion-mnist", monkeypatch, files, url)
        assert fetch_files("fashion-mnist", tmp_path / "root", lambda progress: None) == tmp_path / "root" / "fashion-mnist"
        assert handler.asked == [None, "bytes=1000-", None, None, None]
    assert_reads(tmp_path / "root", fashion_files.arrays())
    assert {path.name for path in (tmp_path / "root" / "fashion-mnist").iterdir()} == files.keys()


def test_a_file_that_is_changed_on_the_way_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = fashion_files.archives()
    sets.put(tmp_path / "site", files | {"t10k-labels-idx1-ubyte.gz": b"changed on the way"})
    with sets.served(tmp_path / "site", monkeypatch) as (url, _):
        sets.published_as("fashion-mnist", monkeypatch, files, url)
        with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte.gz.* is not what its publisher gives"):
            fetch_files("fashion-mnist", tmp_path / "root", lambda progress: None)
    with pytest.raises(UserError, match="is not in"):
        read(tmp_path / "root")


def test_the_publishers_checksums_are_those_that_torchvision_knows() -> None:
    assert {archive.name: archive.md5 for archive in fashion_files.FACTS.archives} == dict(FashionMNIST.resources)


def test_files_that_a_package_has_packed_anew_are_not_called_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fashion_files.write(tmp_path / "package", packed=True)
    facts = replace(fashion_files.FACTS, folders=("fashion-mnist", str(tmp_path / "package")))
    monkeypatch.setitem(DATASETS, "fashion-mnist", facts)
    found = check(DatasetPart(name="fashion-mnist"), tmp_path, lambda progress: None)
    assert (found.folder, found.archives, found.broken) == (str(tmp_path / "package"), {}, ())
