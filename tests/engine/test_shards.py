"""WebDataset shards are found, indexed once, and refused where they are not what they should be."""

from __future__ import annotations

import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import picture_sets as sets
from support.presets import tiny
from support.shards import sample, shard, shards, with_member

from engine import shards as module
from engine.errors import UserError
from engine.image_folders import facts_of, folder_digest
from engine.pictures import BrokenPictureError, decode
from engine.preset import DatasetPart, TrainPart
from engine.shards import read_shards, shards_of
from engine.teachers.store import content_key


def part(root: Path, **settings: object) -> DatasetPart:
    return DatasetPart.model_validate({"name": "webdataset", "path": str(root), "size": 16} | settings)


def test_where_pictures_lie_and_of_which_class_they_are(tmp_path: Path) -> None:
    shards(tmp_path, classes=3)
    found = read_shards(tmp_path)
    assert (len(found.train), len(found.test), found.validation) == (18, 8, None)
    assert found.classes == ("0", "1", "2")
    assert found.train.labels == tuple(k % 3 for k in range(18))
    assert found.train.paths[6] == "train-000001.tar/00006.jpg"
    offset, size = found.train.span(6) or (0, 0)
    content = (tmp_path / "train-000001.tar").read_bytes()[offset : offset + size]
    assert content == sets.jpeg(6, 40, 36)
    few = found.train.chosen([6, 2])
    assert (few.paths[0], few.span(0), few.span(1)) == (found.train.paths[6], (offset, size), found.train.span(2))
    assert decode(str(tmp_path / found.train.paths[6]), (offset, size)).size == (40, 36)


def test_folders_of_shards_three_parts_and_named_classes(tmp_path: Path) -> None:
    for place, number in (("train/10.tar", 2), ("train/9.tar", 0), ("val/0.tar", 4), ("test/0.tar", 6)):
        extra = {"note.json": b"{}", "x/y.z.json": b"{}"}
        shard(tmp_path / place, {**extra, **sample(number, 0), **sample(number + 1, 1)})
    (tmp_path / "classes.txt").write_text("daisy\nrose\n")
    found = read_shards(tmp_path)
    assert shards_of(tmp_path, "train") == ["train/9.tar", "train/10.tar"]
    assert found.classes == ("daisy", "rose")
    assert found.validation is not None
    assert (len(found.train), len(found.validation), len(found.test)) == (4, 2, 2)
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "classes.json").write_text('{"1": "rose", "0": "daisy"}')
    assert read_shards(tmp_path).classes == ("daisy", "rose")
    (tmp_path / "classes.json").write_text('["daisy"]')
    with pytest.raises(UserError, match="names 1 classes, but the shards have a class 1"):
        read_shards(tmp_path)


def test_an_archive_is_read_once_and_again_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned = []
    scan = module._scanned
    monkeypatch.setattr(module, "_scanned", lambda path, *rest: scanned.append(path.name) or scan(path, *rest))
    shards(tmp_path)
    first, digest = read_shards(tmp_path), folder_digest(part(tmp_path))
    assert len(scanned) == 4
    assert read_shards(tmp_path) == first
    assert facts_of(part(tmp_path)).train_images == 18
    assert len(scanned) == 4
    shard(tmp_path / "train-000001.tar", sample(99, 1))
    assert facts_of(part(tmp_path)).train_images == 13
    assert folder_digest(part(tmp_path)) != digest
    assert scanned[4:] == ["train-000001.tar"]


def test_a_damaged_index_in_the_cache_is_made_anew(tmp_path: Path) -> None:
    shards(tmp_path)
    expected = read_shards(tmp_path)
    kept = list((module.cache_dir() / "shards").iterdir())
    assert len(kept) == 4
    for path, text in zip(kept, ("{", '{"members": ["a"], "spans": [1], "labels": [0]}', "[]", ""), strict=True):
        path.write_text(text)
    assert read_shards(tmp_path) == expected


def test_a_display_does_not_wait(tmp_path: Path) -> None:
    shards(tmp_path)
    with pytest.raises(TimeoutError):
        read_shards(tmp_path, time.monotonic() - 1)


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, target
    return found


def changed(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.write_bytes(change(path.read_bytes()))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: with_member(path, member("b.jpg", tarfile.SYMTYPE, "/etc/passwd")), "b.jpg is a link"),
        (lambda path: with_member(path, member("b.jpg", tarfile.LNKTYPE, "00000.jpg")), "b.jpg is a link"),
        (lambda path: with_member(path, member("b.jpg", tarfile.FIFOTYPE)), "b.jpg is a link, a device"),
        (lambda path: with_member(path, member("/etc/b.jpg")), "leads out of it"),
        (lambda path: with_member(path, member("../b.jpg")), "leads out of it"),
        (lambda path: with_member(path, member("b.jpg")), "b.jpg comes without its class"),
        (lambda path: shard(path, {"a.jpg": b"x", "a.png": b"x", "a.cls": b"0"}), "two pictures of one sample"),
        (lambda path: shard(path, {"a.jpg": b"x", "a.cls": b"-1"}), "says '-1', which is no class's number"),
        (lambda path: shard(path, {"a.jpg": b"x", "a.cls": b"rose"}), "says 'rose'"),
        (lambda path: shard(path, {"a.jpg": b"x", "a.cls": b"9" * 30}), "no class's number"),
        (lambda path: shard(path, {"a.txt": b"x"}), "there is no picture in it"),
        (changed(lambda data: data[:700]), "is damaged: it ends within"),
        (changed(lambda data: data[:2048]), "is damaged"),
        (changed(lambda data: b"\x1f\x8b" + data), "is damaged"),
        (changed(lambda data: data[:100] + b"zz" + data[102:]), "is damaged"),
        (lambda path: path.unlink() or path.symlink_to("/etc/passwd"), "is a link that leads out of"),
    ],
)
def test_what_a_shard_must_not_be(tmp_path: Path, spoil: Callable[[Path], None], said: str) -> None:
    root = tmp_path / "own"
    shards(root, train=1)
    spoil(root / "train-000000.tar")
    with pytest.raises(UserError, match=said) as caught:
        read_shards(root)
    assert "\n" not in str(caught.value)
    assert "train-000000.tar" in str(caught.value)


def test_a_folder_without_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        read_shards(tmp_path / "none")
    (tmp_path / "train-0.tar.gz").write_bytes(b"")
    with pytest.raises(UserError, match="is compressed, which allows no reading at a place"):
        read_shards(tmp_path)
    shards(tmp_path)
    (tmp_path / "val-000000.tar").unlink()
    with pytest.raises(UserError, match="none for val or test"):
        read_shards(tmp_path)


def test_a_picture_whose_archive_was_cut_meanwhile_is_broken(tmp_path: Path) -> None:
    shards(tmp_path, train=1)
    found = read_shards(tmp_path).train
    os.truncate(tmp_path / "train-000000.tar", 1024)
    with pytest.raises(BrokenPictureError, match="its archive ends before it does"):
        decode(str(tmp_path / found.paths[5]), found.span(5))
    with pytest.raises(BrokenPictureError, match="more than"):
        decode(str(tmp_path / found.paths[5]), (0, 1 << 40))


def test_teachers_of_another_order_are_others(tmp_path: Path) -> None:
    shards(tmp_path)
    presets = [tiny().model_copy(update={"dataset": part(tmp_path, shuffle=how)}) for how in ("images", "shards")]
    keys = [content_key(preset, "resnet8", 0, TrainPart(), ranks=1) for preset in presets]
    assert len(set(keys)) == 2


def test_shuffling_by_shards_is_for_shards(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no shards; remove shuffle"):
        DatasetPart.model_validate({"name": "imagefolder", "path": str(tmp_path), "shuffle": "shards"})
