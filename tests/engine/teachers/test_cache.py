"""The teacher cache: its rows are what the teachers say, computed once, found again, and right or not used."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import caches
from support.caches import CHUNKS, Counted, batches, digits, files, filled, opened, panel, preset
from support.nfs import mounted_at
from support.refusal import refused
from torch import Tensor

from engine.control_group import Memory
from engine.data import Batch
from engine.errors import StoppedError, UnreadableError, UserError
from engine.events import CacheProgress, Event, Log
from engine.models import Output
from engine.models.panel import TeacherPanel
from engine.preset import Preset
from engine.teachers.cache import CachedTeachers
from engine.teachers.cache_part import FileWriter, Layout, PartFile
from engine.teachers.cache_rows import DTYPES, rows_of
from engine.teachers.cache_space import COMFORTABLE, MOST, Place, find_place

TESTS = Path(__file__).resolve().parents[2]
TEACHERS = 2


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> type[Counted]:
    monkeypatch.setattr("engine.models.panel.TeacherPanel", Counted)
    monkeypatch.setattr(Counted, "passes", 0)
    return Counted


def assert_half_precise(found: list[Output], expected: list[Output]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.logits.dtype == one.features.dtype == torch.float32
        torch.testing.assert_close(one.logits, other.logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one.features, other.features, rtol=2**-10, atol=1e-5)


def answers(cached: CachedTeachers, asked: Preset, epoch: int = 0) -> list[Tensor]:
    return [tensor for batch in batches(asked, epoch) for output in cached.of(batch) for tensor in output]


def warnings(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Log) and event.level == "warning"]


@pytest.mark.parametrize("storage", ["disk", "memory", "auto"])
@pytest.mark.parametrize("augment", ["true", "false"])
def test_rows_are_what_the_teachers_say_of_the_batch(tmp_path: Path, storage: str, augment: str) -> None:
    asked = preset(3, f"teacher_cache.storage={storage}", f"train.augment={augment}")
    teachers = panel(asked)
    cached = filled(tmp_path / "cache", asked, teachers=teachers)
    for epoch in (0, 1, 2, 3):
        for batch in batches(asked, epoch):
            assert_half_precise(cached.of(batch), teachers.of(batch))
    assert (tmp_path / "cache").exists() == (storage != "memory")
    cached.close()


def test_files_are_for_nobody_else_to_read(tmp_path: Path) -> None:
    filled(tmp_path / "cache", preset()).close()
    for path in [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_second_asks_no_teacher_and_more_views_ask_for_those_alone(tmp_path: Path, counted: type[Counted]) -> None:
    filled(tmp_path, preset(2)).close()
    assert counted.passes == TEACHERS * 2 * CHUNKS
    before = files(tmp_path)
    events: list[Event] = []
    filled(tmp_path, preset(2), emit=events.append).close()
    assert counted.passes == TEACHERS * 2 * CHUNKS
    assert any(isinstance(event, Log) and "no teacher is asked" in event.message for event in events)
    assert not any(isinstance(event, CacheProgress) for event in events)
    filled(tmp_path, preset(4)).close()
    assert counted.passes == TEACHERS * 4 * CHUNKS
    assert {name: rows for name, rows in files(tmp_path).items() if name in before} == before


def test_a_seed_another_order_and_fewer_teachers_share_rows(tmp_path: Path, counted: type[Counted]) -> None:
    asked = preset(2)
    filled(tmp_path, asked).close()
    passes = counted.passes
    turned = asked.model_copy(update={"seed": 5, "teachers": asked.teachers[::-1]})
    filled(tmp_path, turned).close()
    one = preset(1, "method={name: kd}", "teachers=[{arch: resnet14, seed: 1}]")
    filled(tmp_path, one).close()
    assert counted.passes == passes


@pytest.mark.parametrize(
    "change",
    ["train.augment=false", "dataset.split_seed=1", "teachers.*.seed=9", "hardware.precision=bf16"],
)
def test_what_changes_the_outputs_has_other_rows(tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, preset(1)).close()
    before = {path.name for path in tmp_path.iterdir()}
    if change.startswith("dataset"):
        other = digits()
        turned = other.train.pixels.flip(0)
        monkeypatch.setattr(caches, "digits", lambda: caches.replace(other, train=caches.replace(other.train, pixels=turned)))
    keys = {subject.key for subject in opened(tmp_path, preset(1, change)).subjects}
    assert not keys & before


def test_methods_without_features_keep_logits_alone_and_features_are_added(tmp_path: Path, counted: type[Counted]) -> None:
    cached = filled(tmp_path, preset(1, "method={name: aver}"))
    assert {name.split("-")[-1] for name in files(tmp_path)} == {"logits.rows"}
    assert cached.of(batches(preset(1))[0])[0].features.numel() == 0
    cached.close()
    asked = preset(1)
    cached = filled(tmp_path, asked)
    assert counted.passes == 2 * TEACHERS * CHUNKS
    assert_half_precise(cached.of(batches(asked)[0]), panel(asked).of(batches(asked)[0]))
    cached.close()
    filled(tmp_path, preset(1, "method={name: aver}")).close()
    assert counted.passes == 2 * TEACHERS * CHUNKS


def test_without_augmentation_there_is_one_view_and_that_is_said(tmp_path: Path) -> None:
    events: list[Event] = []
    filled(tmp_path, preset(4, "train.augment=false"), emit=events.append).close()
    assert len(files(tmp_path)) == TEACHERS * 2
    (said,) = warnings(events)
    assert "train.augment is false" in said
    assert "one view" in said


def in_a_process(root: Path, views: int, kill_at: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "support.caches", str(root), str(views), str(kill_at)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(TESTS), os.environ["PYTHONPATH"]))}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kill_at", [1, 5, 12, *(pytest.param(moment, marks=pytest.mark.slow) for moment in (2, 3, 8))])
def test_killed_in_the_middle_it_goes_on_and_ends_the_same(tmp_path: Path, kill_at: int, counted: type[Counted]) -> None:
    killed = in_a_process(tmp_path / "killed", 2, kill_at)
    assert killed.wait(60) == -signal.SIGKILL
    done = sum(len(journal.splitlines()) - 1 for name, journal in files(tmp_path / "killed", "features.journal").items())
    done += CHUNKS * len(files(tmp_path / "killed", "features.json"))
    filled(tmp_path / "killed", preset(2)).close()
    assert counted.passes == TEACHERS * 2 * CHUNKS - done
    filled(tmp_path / "whole", preset(2)).close()
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert files(tmp_path / "killed", ".json") == files(tmp_path / "whole", ".json")
    assert not files(tmp_path / "killed", ".partial")
    assert not files(tmp_path / "killed", ".journal")


def test_a_chunk_that_a_power_cut_spoilt_is_computed_again(tmp_path: Path, counted: type[Counted]) -> None:
    def stop_at(number: int) -> Any:
        polls = iter(range(1, 1000))

        def poll() -> None:
            if next(polls) == number:
                raise StoppedError

        return poll

    with pytest.raises(StoppedError):
        filled(tmp_path / "cut", preset(1), stop_at(3))  # two chunks are written
    (partial,) = (tmp_path / "cut").glob("*/view-0000-features.partial")
    content = bytearray(partial.read_bytes())
    content[len(content) // 2] ^= 1  # in the second chunk
    partial.write_bytes(content)
    (journal,) = (tmp_path / "cut").glob("*/view-0000-logits.journal")
    with journal.open("ab") as file:
        file.write(b"0123")  # torn
    counted.passes = 0
    filled(tmp_path / "cut", preset(1)).close()
    assert counted.passes == (CHUNKS - 1) + CHUNKS
    filled(tmp_path / "whole", preset(1)).close()
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_one_killed_before_its_manifest_is_taken_up(tmp_path: Path, counted: type[Counted]) -> None:
    asked = preset(1, "method={name: aver}")
    filled(tmp_path, asked).close()
    whole = files(tmp_path)
    for manifest in tmp_path.glob("*/*.json"):
        if manifest.name.startswith("view"):
            manifest.unlink()
    filled(tmp_path, asked).close()
    assert files(tmp_path) == whole


@pytest.mark.parametrize("what", ["flipped", "shorter", "manifest", "gone"])
def test_a_damaged_file_is_set_aside_and_computed_again(tmp_path: Path, what: str, counted: type[Counted]) -> None:
    filled(tmp_path, preset(2)).close()
    whole = files(tmp_path)
    counted.passes = 0
    rows = sorted(tmp_path.glob("*/view-0001-features.rows"))[0]
    content = bytearray(rows.read_bytes())
    if what == "flipped":
        content[len(content) // 2] ^= 1
        rows.write_bytes(content)
    elif what == "shorter":
        rows.write_bytes(content[:-1])
    elif what == "manifest":
        rows.with_suffix(".json").write_text('{"layout": [')
    else:
        rows.unlink()
    events: list[Event] = []
    filled(tmp_path, preset(2), emit=events.append).close()
    assert counted.passes == CHUNKS
    assert files(tmp_path) == whole
    if what in ("flipped", "shorter"):
        (said,) = warnings(events)
        assert str(rows) in said
        (aside,) = rows.parent.glob("damaged-*.rows")
        assert aside.name in said


@pytest.mark.parametrize(("call", "ending"), [("open", ".json"), ("stat", ".rows"), ("open", ".rows")])
def test_a_file_that_cannot_be_read_now_is_not_computed_again(
    tmp_path: Path, call: str, ending: str, counted: type[Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path, preset(1)).close()
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.glob("*/*"))
    counted.passes = 0
    place = min(tmp_path.glob(f"*/view-0000-features{ending}"))
    with monkeypatch.context() as context:
        refused(context, call, place, errno.EIO)
        with pytest.raises(UnreadableError) as caught:
            filled(tmp_path, preset(1))
    for fragment in (str(place), "Input/output error", "MMKD_TEACHER_CACHE"):
        assert fragment in str(caught.value)
    assert counted.passes == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.glob("*/*")) == before
    filled(tmp_path, preset(1)).close()
    assert counted.passes == 0


def test_a_journal_that_cannot_be_read_now_begins_nothing_anew(
    tmp_path: Path, counted: type[Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_after_two() -> None:
        if counted.passes == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        filled(tmp_path, preset(1), stop_after_two)
    with monkeypatch.context() as context:
        refused(context, "open", next(tmp_path.glob("*/view-0000-features.journal")), errno.ESTALE)
        with pytest.raises(UnreadableError, match="journal"):
            filled(tmp_path, preset(1))
    counted.passes = 0
    filled(tmp_path, preset(1)).close()
    assert counted.passes == TEACHERS * CHUNKS - 2


def test_another_process_waits_and_uses_what_is_there(tmp_path: Path, counted: type[Counted]) -> None:
    other: list[subprocess.Popen[str]] = []
    said: list[dict[str, Any]] = []

    def poll() -> None:
        if counted.passes == 1 and not other:  # in the middle of the first teacher
            other.append(in_a_process(tmp_path, 1, -1))
            assert other[0].stdout is not None
            for line in other[0].stdout:
                said.append(json.loads(line))
                if "waiting for it" in said[-1].get("log", ""):
                    return

    filled(tmp_path, preset(1), poll).close()
    (process,) = other
    assert process.stdout is not None
    said += [json.loads(line) for line in process.stdout]
    assert process.wait(60) == 0
    assert any("another run is computing the outputs of resnet8-s0" in one.get("log", "") for one in said)
    # Whichever of the two came to the second teacher first has computed it: each view once.
    assert counted.passes + said[-1]["passes"] == TEACHERS * CHUNKS


def test_too_large_for_float16_is_kept_in_bfloat16(tmp_path: Path) -> None:
    asked = preset(2)
    teachers = panel(asked)
    with torch.no_grad():
        teachers.teachers[0].get_submodule("layer3.0.bn2").weight.fill_(1e6)
    for storage in ("disk", "memory"):
        events: list[Event] = []
        cached = filled(tmp_path, preset(2, f"teacher_cache.storage={storage}"), emit=events.append, teachers=teachers)
        batch = batches(asked)[0]
        found, expected = cached.of(batch)[0].features, teachers.of(batch)[0].features
        assert expected.max() > 65504
        torch.testing.assert_close(found, expected, rtol=2**-8, atol=1e-2)
        assert any("resnet8-s0" in message and "bfloat16" in message for message in warnings(events))
        cached.close()


def test_outputs_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    asked = preset(1)
    teachers = panel(asked)
    with torch.no_grad():
        teachers.teachers[1].get_submodule("fc").weight.fill_(float("nan"))
    with pytest.raises(UserError, match=r"resnet14-s1: its logits .* not all finite"):
        filled(tmp_path, asked, teachers=teachers)


def free(monkeypatch: pytest.MonkeyPatch, bytes: int) -> None:
    total = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: total._replace(free=(1 << 30) + bytes))


def test_too_little_room_is_told_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 2 * TEACHERS * caches.IMAGES * (4 * 10 + 2 * 64 * 2 * 2)
    free(monkeypatch, needed - 1)
    with pytest.raises(UserError) as caught:
        opened(tmp_path / "cache", preset(2))
    for fragment in (f"{needed:,} bytes", f"{needed - 1:,} bytes", "fewer views", "MMKD_TEACHER_CACHE"):
        assert fragment in str(caught.value)
    assert not (tmp_path / "cache").exists()
    free(monkeypatch, needed)
    filled(tmp_path / "cache", preset(2)).close()
    free(monkeypatch, 0)  # what is there needs no more room
    filled(tmp_path / "cache", preset(2)).close()


@pytest.mark.parametrize("kind", ["nfs4", "ext4"])
def test_room_is_taken_at_once_but_over_a_network(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the C library reads and writes a byte of every 4 KB."""
    asked: list[int] = []
    monkeypatch.setattr(os, "posix_fallocate", lambda handle, start, size: asked.append(size))
    mounted_at(monkeypatch, tmp_path, kind)
    part = PartFile(tmp_path, 0, "logits", (10,), 300)
    FileWriter(part, Layout("logits", (10,), "float32"), lambda: None).close()
    assert asked == ([] if kind == "nfs4" else [300 * 40])
    assert part.partial.stat().st_size == 300 * 40


def test_where_the_disk_is_full_auto_takes_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 0)
    asked = preset(2, "teacher_cache.storage=auto")
    cached = filled(tmp_path / "cache", asked)
    assert_half_precise(cached.of(batches(asked)[0]), panel(asked).of(batches(asked)[0]))
    assert not (tmp_path / "cache").exists()
    cached.close()


@pytest.mark.parametrize(("storage", "share"), [("memory", MOST), ("auto", COMFORTABLE)])
def test_in_memory_it_must_fit_for_every_process_of_the_machine(
    storage: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    total, cpu = 10**9, torch.device("cpu")
    free(monkeypatch, 0)

    def place(processes: int) -> Place:
        return find_place(storage, total, total, tmp_path, cpu, 2, processes)

    room = int(2 * total / share) + 1
    monkeypatch.setattr("engine.teachers.cache_space.memory", lambda: Memory(room, room))
    assert place(1) == place(2) == Place(False, "memory")
    with pytest.raises(UserError) as caught:
        place(3)
    if storage == "memory":
        assert "needs 3.00 GB (3,000,000,000 bytes) of memory (1.00 GB (1,000,000,000 bytes) for each of 3 processes)" in str(
            caught.value
        )


def test_files_are_counted_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1000)
    assert find_place("disk", 1000, 1000, tmp_path, torch.device("cpu"), 2, 8) == Place(True, "files")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match="MMKD_TEACHER_CACHE"):
        filled(tmp_path / "cache", preset(1))


def test_an_ordinary_batch_has_no_rows(tmp_path: Path) -> None:
    cached = filled(tmp_path, preset(1))
    ordinary = next(digits().train.shuffled(8, 0, 0, digits().augmentation))
    assert isinstance(ordinary, Batch)
    with pytest.raises(ValueError, match="fixed views"):
        cached.of(ordinary)
    assert isinstance(panel(preset(1)), TeacherPanel)
    cached.close()


def test_progress_rises_to_its_end(tmp_path: Path) -> None:
    events: list[Event] = []
    filled(tmp_path, preset(2), emit=events.append).close()
    told = [event for event in events if isinstance(event, CacheProgress)]
    assert told[0].done == 0
    assert told[-1].done == told[-1].total == TEACHERS * 2 * caches.IMAGES
    assert [event.done for event in told] == sorted(event.done for event in told)


@pytest.mark.parametrize("second", ["float16", "bfloat16"])
def test_rows_are_the_same_wherever_they_are_held(second: str) -> None:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(300, 3, 2, 2, generator=generator).to(DTYPES[dtype]) for dtype in ("float16", second)]
    views = [
        (Layout("features", (3, 2, 2), dtype), rows.view(300, -1).view(torch.uint8).numpy())
        for dtype, rows in zip(("float16", second), made, strict=True)
    ]
    places = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([299, 0, 299, 7, 7])
    expected = torch.stack([made[view][index].float() for view, index in zip(*map(Tensor.tolist, places), strict=True)])
    for held in ("files", "memory", "device"):
        found = rows_of(views, torch.device("cpu"), held).take(*places)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)
