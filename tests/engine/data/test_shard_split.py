"""Batches from shards: the same whatever decodes them, dealt out whole, from any step on; by windows of shards on request."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import picture_sets as sets
from support.shards import sample, shard, shards

from engine.data import load_images
from engine.data.check import check
from engine.data.images import LEFT_OUT, Images, Share
from engine.data.shard_order import WINDOW, order_by_shards
from engine.preset import DatasetPart

CPU = torch.device("cpu")


def opened(root: Path, workers: int = 0, **settings: object) -> Images:
    part = DatasetPart.model_validate({"name": "webdataset", "path": str(root), "size": 32} | settings)
    return load_images(part, root, CPU, workers)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards")
    shards(path, train=5, each=6)
    return path


def shown(images: Images, start: int = 0, share: Share = Share(), epoch: int = 1) -> list[tuple[torch.Tensor, torch.Tensor]]:  # noqa: B008
    batches = images.train.shuffled(4, 7, epoch, images.augmenting(True), start, share)
    return [(batch.images, batch.indices) for batch in batches]


@pytest.mark.parametrize("shuffle", ["images", "shards"])
def test_workers_ranks_and_resumption_change_no_batch(root: Path, shuffle: str) -> None:
    alone, by_workers = opened(root, 0, shuffle=shuffle), opened(root, 2, shuffle=shuffle)
    whole = shown(alone)
    assert len(whole) == 27 // 4
    for found in (shown(by_workers), whole[:2] + shown(alone, start=2)):
        assert all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(whole, found, strict=True))
    dealt = [shown(alone, share=Share(rank, 2)) for rank in range(2)]
    for number, pair in enumerate(zip(*dealt, strict=True)):
        for rank in range(2):
            assert torch.equal(pair[rank][0], whole[2 * number + rank][0])
    again = shown(alone, epoch=2)
    assert any(not torch.equal(a[1], b[1]) for a, b in zip(whole, again, strict=True))
    by_workers.close()


def test_pixels_are_those_of_the_same_pictures_in_files(tmp_path: Path) -> None:
    shards(tmp_path / "packed", train=1, each=6, tests=2)
    for place, numbers in (("train", range(6)), ("test", range(6, 8))):
        sets.put(tmp_path / "loose" / place, {f"class-{k % 2}/{k}.jpg": sets.jpeg(k, 40, 36) for k in numbers})
    loose = load_images(DatasetPart(name="imagefolder", path=str(tmp_path / "loose"), size=32), tmp_path, CPU, 0)
    (found,), (expected,) = opened(tmp_path / "packed").test.in_order(2), loose.test.in_order(2)
    assert torch.equal(found.images, expected.images)
    assert torch.equal(found.labels, expected.labels)


@pytest.mark.parametrize("count", [1, 3, 20])
def test_windows_of_shards(count: int) -> None:
    numbers = torch.arange(count).repeat_interleave(5)[torch.randperm(5 * count, generator=torch.Generator().manual_seed(0))]
    order = order_by_shards(numbers, 3, 1)
    assert torch.equal(order.sort().values, torch.arange(5 * count))
    assert torch.equal(order, order_by_shards(numbers, 3, 1))
    seen = [set(part.tolist()) for part in torch.split(numbers[order], 5 * WINDOW)]
    assert all(len(part) <= WINDOW for part in seen)  # a window reads no more shards than that
    assert sum(len(part) for part in seen) == count
    if count > WINDOW:
        assert seen[0] != set(range(WINDOW))
        assert set(numbers[order_by_shards(numbers, 3, 2)][: 5 * WINDOW].tolist()) != seen[0]


def test_broken_pictures_are_named_and_left_out(tmp_path: Path) -> None:
    bad = {"bad.png": sets.bomb(), "bad.cls": b"1", "cut.jpg": sets.jpeg(5)[:200], "cut.cls": b"0"}
    shards(tmp_path, train=1)
    shard(tmp_path / "train-000001.tar", {**sample(50, 0), **bad, **sample(51, 1)})
    shard(tmp_path / "val-000000.tar", {**sample(60, 0), "gone.jpg": b"", "gone.cls": b"1"})
    images = opened(tmp_path)
    told: list[str] = []
    images.troubles.listen(lambda level, message: told.append(message))
    for epoch in range(3):
        for batch, _ in shown(images, epoch=epoch):
            assert torch.isfinite(batch).all()
    (tested,) = images.test.in_order(4)
    assert tested.labels.tolist() == [0, LEFT_OUT]
    assert images.test.labels.tolist() == [0, LEFT_OUT]
    assert sum(f"{tmp_path}/train-000001.tar/bad.png cannot be read" in line for line in told) <= 1
    assert any("val-000000.tar/gone.jpg cannot be read" in line for line in told)
    part = DatasetPart(name="webdataset", path=str(tmp_path))
    found = check(part, tmp_path, lambda progress: None)
    broken = sorted(Path(path).name for path, _ in found.broken)
    assert broken == ["bad.png", "cut.jpg", "gone.jpg"]
    assert sum(found.splits["train"]) == 8
