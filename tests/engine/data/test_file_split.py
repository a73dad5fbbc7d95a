"""Splits whose pictures lie in files: the same batches whatever decodes them, and no broken picture ends anything."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import picture_sets as sets
from support.away import PAUSES, away
from support.refusal import refused
from torch import Tensor

from engine.data import Batch, Images, load_images
from engine.data import decoders as decoding
from engine.data.augment import FixedViews, ResizedCrop
from engine.data.file_split import FileSplit
from engine.data.images import LEFT_OUT, Share
from engine.errors import AwayError, TrainingError, UserError
from engine.measure import measured
from engine.pictures import Job, decode_all
from engine.preset import DatasetPart

CPU = torch.device("cpu")
PICTURES = 12  # of each of two classes


def opened(root: Path, workers: int, **settings: object) -> Images:
    part = DatasetPart.model_validate({"name": "imagefolder", "path": str(root), "size": 32} | settings)
    return load_images(part, root, CPU, workers)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    sets.pictures(path, {"train": PICTURES, "test": 5})
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    sets.pictures(tmp_path, {"train": PICTURES, "test": 5})
    return tmp_path


@pytest.fixture(scope="module")
def by_workers(root: Path) -> Iterator[Images]:
    images = opened(root, 2)
    yield images
    images.close()


def test_pictures_are_measured_whole_where_resize_says_so(tmp_path: Path) -> None:
    sets.pictures(tmp_path, {"train": PICTURES, "test": 2}, width=32, height=32)
    images = opened(tmp_path, 0, resize=32)
    (batch,) = images.test.in_order(4)
    shown = (batch.images * images.test.std + images.test.mean).round().byte()
    for index, path in enumerate(images.test.listing.paths):
        pixels = torch.from_numpy(np.array(Image.open(tmp_path / path))).permute(2, 0, 1)
        assert torch.equal(shown[index], pixels)


def test_what_is_usual_may_be_said_and_is_the_same_data(root: Path) -> None:
    prints = [list(opened(root, 0, **said).train.fingerprint()) for said in ({}, {"resize": 37}, {"resize": 32})]
    equal = [all(map(torch.equal, prints[0], other)) for other in prints[1:]]
    assert equal == [True, False]


def same(one: Batch, other: Batch) -> bool:
    pairs = zip(one, other, strict=True)
    return all((a is None and b is None) or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs)


def broken(images: Images) -> list[str]:
    said: list[str] = []
    images.troubles.listen(lambda level, message: said.append(message))
    return said


@pytest.mark.parametrize("augmentation", [ResizedCrop(), None, FixedViews(ResizedCrop(), 3)])
@pytest.mark.parametrize("start", [0, 3])
def test_workers_and_a_resume_change_nothing(augmentation: object, start: int, root: Path, by_workers: Images) -> None:
    alone = opened(root, 0)
    whole = list(alone.train.shuffled(4, 7, 2, augmentation))  # type: ignore[arg-type]
    assert len(whole) == len(alone.train) // 4 == 5
    rest = list(by_workers.train.shuffled(4, 7, 2, augmentation, start))  # type: ignore[arg-type]
    assert len(rest) == 5 - start
    assert all(same(one, other) for one, other in zip(whole[start:], rest, strict=True))
    evaluated = zip(alone.test.in_order(3), by_workers.test.in_order(3), strict=True)
    assert all(same(one, other) for one, other in evaluated)


def test_what_is_shown_is_of_seed_epoch_and_picture(root: Path) -> None:
    split = opened(root, 0).train

    def shown(size: int, seed: int, epoch: int) -> dict[int, Tensor]:
        batches = split.shuffled(size, seed, epoch, ResizedCrop())
        return {int(i): image for b in batches for i, image in zip(b.indices, b.images, strict=True)}  # type: ignore[arg-type]

    small, large = shown(1, 3, 1), shown(4, 3, 1)
    assert all(torch.equal(small[index], large[index]) for index in large)
    other = shown(4, 3, 2)
    assert not any(torch.equal(small[index], other[index]) for index in other)


def test_pictures_stay_with_their_labels_and_are_normalised(root: Path) -> None:
    split = opened(root, 0).train
    assert isinstance(split, FileSplit)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for batch in split.shuffled(4, 0, 0, None):
        assert batch.images.shape == (4, 3, 32, 32)
        assert batch.indices is not None
        for index, label, image in zip(batch.indices.tolist(), batch.labels.tolist(), batch.images, strict=True):
            assert f"class-{label}" in split.listing.paths[index]
            from engine.pictures import centre, decode

            pixels = torch.frombuffer(
                bytearray(centre(decode(str(split.root / split.listing.paths[index])), 32).tobytes()), dtype=torch.uint8
            )
            expected = (pixels.view(32, 32, 3) / 255 - mean) / std
            assert torch.allclose(image.permute(1, 2, 0), expected, atol=1e-5)


def test_a_fixed_view_is_what_training_shows(root: Path) -> None:
    split, fixed = opened(root, 0).train, FixedViews(ResizedCrop(), 3)
    for batch in split.shuffled(4, 5, 1, fixed):
        assert batch.indices is not None
        assert batch.views is not None
        for number, (index, view) in enumerate(zip(batch.indices, batch.views, strict=True)):
            (alone,) = split.viewed([index[None]], fixed, int(view))
            assert torch.equal(alone.images[0], batch.images[number])


def test_views_of_several_batches_are_each_ones_own_whatever_is_decoded_ahead(root: Path) -> None:
    alone, ahead, fixed = opened(root, 0), opened(root, 2), FixedViews(ResizedCrop(), 3)
    wanted = torch.split(torch.randperm(len(alone.train)), 3)
    found = list(ahead.train.viewed(wanted, fixed, 1))
    ahead.close()
    for indices, batch in zip(wanted, found, strict=True):
        (expected,) = alone.train.viewed([indices], fixed, 1)
        assert torch.equal(batch.images, expected.images)
        assert torch.equal(batch.labels, expected.labels)


@pytest.mark.parametrize("workers", [0, 2])
def test_another_picture_takes_the_place_of_a_broken_one(workers: int, own: Path) -> None:
    images = opened(own, 0)
    assert isinstance(images.train, FileSplit)
    paths = images.train.listing.paths
    for path in (paths[2], paths[3]):
        (own / path).write_bytes((own / path).read_bytes()[:400])
    images = opened(own, workers)
    said = broken(images)
    assert isinstance(images.train, FileSplit)
    try:
        for epoch in (0, 1):
            batches = list(images.train.shuffled(4, 1, epoch, ResizedCrop()))
            assert [len(batch.images) for batch in batches] == [4] * 5
            shown = torch.cat([batch.indices for batch in batches if batch.indices is not None])
            assert not {2, 3} & set(shown.tolist())
            expected = [next(k for k in range(i, i + 3) if k not in (2, 3)) for i in _order(len(images.train), 1, epoch)[:20]]
            assert shown.tolist() == expected
            labels = torch.cat([batch.labels for batch in batches]).tolist()
            assert labels == [images.train.listing.labels[i] for i in expected]
    finally:
        images.close()
    assert sorted(line.partition(" cannot be read")[0] for line in said[1:]) == sorted(str(own / p) for p in (paths[2], paths[3]))
    assert images.troubles.count == 2


def _order(count: int, seed: int, epoch: int) -> list[int]:
    from engine.randomness import permutation

    return permutation(count, seed, "order", epoch).tolist()


def test_a_picture_that_could_not_be_read_once_stays_left_out(own: Path) -> None:
    """A file system on a network may be away for a moment; the picture has lost its label by then."""
    images = opened(own, 0)
    index = 3
    path = own / images.train.listing.paths[index]  # type: ignore[attr-defined]
    path.rename(own / "away")
    assert index not in torch.cat([batch.indices for batch in images.train.shuffled(4, 7, 0, None)])
    (own / "away").rename(path)
    batches = list(images.train.shuffled(4, 7, 1, None))
    assert index not in torch.cat([batch.indices for batch in batches])
    assert LEFT_OUT not in torch.cat([batch.labels for batch in batches])
    assert images.troubles.count == 1


def test_a_broken_picture_counts_in_no_measurement(own: Path) -> None:
    whole = opened(own, 0).test
    logits = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    bad = own / "test" / "class-1" / "002.jpg"
    bad.write_bytes(sets.bomb())
    images = opened(own, 0)
    said = broken(images)
    assert len(list(images.test.in_order(4))) == 3
    assert images.test.labels.tolist() == [0] * 5 + [1, 1, LEFT_OUT, 1, 1]
    kept = [k for k in range(10) if k != 7]
    assert measured(logits, images.test.labels) == measured(logits[kept], whole.labels[kept])
    assert sum("50,000,000" in line and str(bad) in line for line in said) == 1
    list(images.test.in_order(4))
    assert images.troubles.count == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_cannot_be_read_now_is_never_taken_for_a_broken_one(
    workers: int, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.pictures.PAUSES", PAUSES)
    monkeypatch.setattr(decoding, "SERVER", "support.away")
    images = opened(own, workers)
    said = broken(images)
    train, test = images.train, images.test
    assert isinstance(train, FileSplit)
    assert isinstance(test, FileSplit)
    expected = [*train.shuffled(4, 0, 0, ResizedCrop()), *test.in_order(4)]
    told = len(said)
    gone = [own / path for path in (*train.listing.paths, test.listing.paths[3])]
    try:
        with away(*gone):
            for doing in (
                train.shuffled(4, 0, 0, ResizedCrop()),
                train.viewed([torch.arange(len(train))], FixedViews(None, 1), 0),
                test.in_order(4),
            ):
                with pytest.raises(AwayError, match="cannot be read now: Input/output error"):
                    list(doing)
        found = [*train.shuffled(4, 0, 0, ResizedCrop()), *test.in_order(4)]
    finally:
        images.close()
    assert all(same(one, other) for one, other in zip(expected, found, strict=True))
    assert (said[told:], images.troubles.count) == ([], 0)
    assert LEFT_OUT not in [*train.labels.tolist(), *test.labels.tolist()]


@pytest.mark.parametrize("left", [True, False])
def test_a_file_system_that_goes_away_breaks_no_picture(left: bool, own: Path) -> None:
    """Where it was mounted, an empty folder is left, or none."""
    images = opened(own, 0)
    expected = list(images.test.in_order(4))
    aside = own.rename(own.with_name("aside"))
    if left:
        own.mkdir()
    for doing in (images.train.shuffled(4, 0, 0, ResizedCrop()), images.test.in_order(4)):
        with pytest.raises(AwayError, match="is empty or gone"):
            list(doing)
    if left:
        own.rmdir()
    aside.rename(own)
    assert all(same(one, other) for one, other in zip(expected, images.test.in_order(4), strict=True))
    assert LEFT_OUT not in [*images.train.labels.tolist(), *images.test.labels.tolist()]


def test_files_that_cannot_be_looked_at_now_have_no_fingerprint(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be that of other pictures."""
    monkeypatch.setattr("engine.pictures.PAUSES", PAUSES)
    train = opened(own, 0).train
    assert isinstance(train, FileSplit)
    with monkeypatch.context() as context:
        refused(context, "stat", own / train.listing.paths[3], errno.EIO)
        with pytest.raises(AwayError, match="Input/output error"):
            list(train.fingerprint())
    assert list(train.fingerprint())


def test_nothing_but_broken_pictures_ends_with_one_message(own: Path) -> None:
    for path in (own / "train").rglob("*.jpg"):
        path.write_bytes(b"")
    images = opened(own, 0)
    with pytest.raises(UserError, match="none of the 22 pictures"):
        list(images.train.shuffled(4, 0, 0, ResizedCrop()))


def test_the_log_names_a_bounded_number_of_broken_pictures(tmp_path: Path) -> None:
    sets.pictures(tmp_path, {"train": 16, "test": 2})
    for path in sorted((tmp_path / "train").rglob("*.jpg"))[2:]:
        path.write_bytes(b"")
    images = opened(tmp_path, 0, validation_fraction=0.05)
    said = broken(images)
    list(images.train.in_order(8))
    images.close()
    assert len([line for line in said if "cannot be read:" in line]) == 20
    assert any("further ones are counted" in line for line in said)
    assert said[-1] == f"{images.troubles.count} pictures could not be read in all"


def test_shares_are_the_whole_taken_in_turns(own: Path) -> None:
    train = opened(own, 0).train
    turns = list(train.shuffled(2, 0, 0, ResizedCrop()))
    for number in range(2):
        share = train.shuffled(2, 0, 0, ResizedCrop(), share=Share(number, 2))
        for mine, batch in zip(share, turns[number::2], strict=False):
            assert same(mine, batch)
        assert [b.labels.tolist() for b in train.in_order(3, Share(number, 2))] == [
            b.labels.tolist() for b in list(train.in_order(3))[number::2]
        ]


def test_a_killed_worker_costs_nothing(own: Path) -> None:
    expected = list(opened(own, 0).train.shuffled(2, 0, 0, ResizedCrop()))
    images = opened(own, 2)
    said = broken(images)
    found = []
    try:
        for number, batch in enumerate(images.train.shuffled(2, 0, 0, ResizedCrop())):
            found.append(batch)
            if number == 2:
                assert images.decoders is not None
                for process in images.decoders._processes:
                    if process.pid is not None:
                        os.kill(process.pid, signal.SIGKILL)
                # Done already or not: the batches ahead are asked for anew where they are not.
        second = list(images.train.shuffled(2, 0, 1, ResizedCrop()))
    finally:
        images.close()
    assert all(same(one, other) for one, other in zip(expected, found, strict=True))
    assert len(second) == len(expected)
    assert any("died" in line for line in said)


def test_a_worker_killed_in_the_middle_of_its_answer_costs_nothing(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    decoders = decoding.Decoders(1, said.append)
    (process,), receive, killed = decoders._processes, Connection.recv, []

    def late(pipe: Connection) -> object:
        if not killed:
            assert pipe.poll(60)  # 2 MB of pixels: more than a pipe takes, so it waits until they are read
            killed.append(process.pid)
            os.kill(killed[0], signal.SIGKILL)
        return receive(pipe)

    monkeypatch.setattr(Connection, "recv", late)
    jobs = [Job(str(own / "test"), ("class-0/000.jpg",) * 16, 224)] * 4
    try:
        (found,) = decoders.in_order([jobs], 64)
    finally:
        decoders.close()
    assert killed
    assert said == ["a process that decodes pictures died; another is started in its place, and nothing is lost"]
    assert all(np.array_equal(decoded.pixels, decode_all(jobs[0]).pixels) for decoded in found)


def test_a_picture_that_processes_die_of_is_named(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "SERVER", "support.deadly")
    images = opened(own, 1)
    try:
        with pytest.raises(TrainingError, match=r"003\.jpg die of it"):
            list(images.test.in_order(10))
    finally:
        images.close()


def test_a_process_that_cannot_be_started_is_told_with_the_systems_reason(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture is to blame."""
    monkeypatch.setattr(sys, "executable", str(own / "nowhere"))
    images = opened(own, 1)
    said = broken(images)
    try:
        with pytest.raises(TrainingError, match=r"cannot be started: No such file or directory; .* hardware\.workers"):
            list(images.test.in_order(10))
    finally:
        images.close()
    assert not any("died" in line or "cannot be read" in line for line in said)


def test_workers_end_with_their_parent(own: Path) -> None:
    """Also where it is killed, and can tell nobody."""
    code = (
        "import time\nfrom engine.data.decoders import Decoders\nfrom engine.pictures import Job\n"
        "decoders = Decoders(1, print)\n"
        f"list(decoders.in_order([[Job({str(own / 'test')!r}, ('class-0/000.jpg',), 32)]], 1))\n"
        "print(decoders._processes[0].pid, flush=True)\ntime.sleep(600)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    workers = [int(number) for number in child.stdout.readline().split()]
    assert workers
    child.kill()
    child.wait()
    deadline = time.monotonic() + 20
    while any(_alive(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_workers_do_not_run_the_script_that_asks_them(own: Path, tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "from engine.data.decoders import Decoders\nfrom engine.pictures import Job\nprint('once')\n"
        "decoders = Decoders(2, print)\n"
        f"print(len(list(decoders.in_order([[Job({str(own / 'test')!r}, ('class-0/000.jpg',), 32)]] * 3, 1))))\n"
        "decoders.close()\n"
    )
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the user, not the library')\n")
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "once\n3\n", "")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_threads_are_not_left_behind(root: Path) -> None:
    before = threading.active_count()
    images = opened(root, 1)
    batches = images.train.shuffled(2, 0, 0, ResizedCrop())
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    images.close()
    deadline = time.monotonic() + 20
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
