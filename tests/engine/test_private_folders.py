"""What a run and its stores write: for this user alone, whatever the umask; and nothing is written or deleted through a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from support.presets import tiny
from support.training import make_trainer

from engine import Run
from engine.checkpoint import load_checkpoint, save_checkpoint
from engine.checkpoints_of_run import RunCheckpoints
from engine.errors import UserError
from engine.events import Event, Log
from engine.paths import private_folder, remove_tree
from engine.run_dir import RunDir
from engine.run_list import remove_run
from engine.teachers.cache_files import CacheStore
from engine.teachers.store import TeacherStore


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def assert_private(folder: Path) -> int:
    """How many files and folders there are, `folder` included."""
    found = [folder, *folder.rglob("*")]
    for path in found:
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), (path, oct(mode))
    return len(found)


@pytest.mark.parametrize("mask", [0o022, 0o000], ids=oct)
def test_all_that_a_run_leaves_is_its_users_alone(mask: int, tmp_path: Path) -> None:
    place = tmp_path / "place"
    with umask(mask):
        preset = tiny("train.epochs=1", "teacher_cache.views=2", "teacher_cache.storage=disk", "evaluate.student_alone=false")
        run_dir = RunDir.create(place / "some" / "runs", preset.name)
        run = Run(preset, run_dir.path, store=place / "teachers", cache=place / "data" / "cache")
        run.control.checkpoint()
        saved: list[int] = []

        def listen(event: Event) -> None:
            if event.kind == "checkpoint_saved":
                saved.append(assert_private(run_dir.checkpoints))

        run.subscribe(listen)
        result = run.execute()
    assert result.state == "done", result.message
    assert max(saved) >= 5
    assert assert_private(place) > 20
    assert run_dir.student.is_file()


def test_a_private_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    with umask(0):
        private_folder(tmp_path / "a" / "b")
        private_folder(tmp_path / "a" / "b")
    assert assert_private(tmp_path / "a") == 2
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="exists"):
        private_folder(tmp_path / "file")


def outside(tmp_path: Path) -> Path:
    """A folder of somebody's, which must stay as it is."""
    folder = tmp_path / "outside"
    (folder / ".x.partial").mkdir(parents=True)
    (folder / "distil-0-step-000001").mkdir()
    (folder / "distil-0-step-000001" / "thesis.tex").write_text("x")
    return folder


def contents(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_linked_checkpoints_folder_is_neither_written_nor_emptied(tmp_path: Path) -> None:
    there = outside(tmp_path)
    before = contents(there)
    (tmp_path / "run").mkdir()
    link = tmp_path / "run" / "checkpoints"
    link.symlink_to(there)
    told: list[Event] = []
    trainer = make_trainer(tiny())
    found = RunCheckpoints(link, told.append)
    found.clear_leftovers()
    found.take_up(trainer)
    found.forget(trainer.phase)
    found.save(trainer)
    assert [event.level for event in told if isinstance(event, Log)] == ["error"]
    assert "is a link" in told[0].message  # type: ignore[attr-defined]
    assert contents(there) == before


def test_links_in_a_checkpoints_folder_are_unlinked_alone(tmp_path: Path) -> None:
    there = outside(tmp_path)
    before = contents(there)
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    trainer = make_trainer(tiny())
    names = ("distil-0-step-000000", ".distil-0-step-000000.old", "distil-0-step-000001", ".y.partial")
    for name in names:
        (folder / name).symlink_to(there / "distil-0-step-000001")
    found = RunCheckpoints(folder, lambda event: None)
    found.save(trainer)  # in the place of the first
    load_checkpoint(folder / names[0])
    assert not (folder / names[0]).is_symlink()
    found.clear_leftovers()
    found.forget(trainer.phase)
    assert contents(folder) == []
    assert contents(there) == before


@pytest.mark.parametrize("name", ["manifest.json", "facts.json", "tensors.safetensors"])
@pytest.mark.parametrize("what", ["link", "pipe", "endless"])
def test_a_checkpoint_of_links_and_pipes_is_refused(what: str, name: str, tmp_path: Path) -> None:
    target = tmp_path / "c"
    save_checkpoint(target, {"a": torch.zeros(3)}, {})
    path = target / name
    if what == "pipe":
        path.unlink()
        os.mkfifo(path)
    else:
        path.rename(tmp_path / name)
        path.symlink_to(tmp_path / name if what == "link" else Path("/dev/zero"))
    with pytest.raises(UserError, match="is no whole checkpoint"):
        load_checkpoint(target)


def test_a_file_with_a_hole_is_not_read_into_memory(tmp_path: Path) -> None:
    target = tmp_path / "c"
    save_checkpoint(target, {"a": torch.zeros(3)}, {})
    with (target / "facts.json").open("r+b") as file:
        try:
            file.truncate(1 << 43)
        except OSError:
            pytest.skip("this file system has no such large files")
    with pytest.raises(UserError, match="is no whole checkpoint"):
        load_checkpoint(target)


def test_removing_follows_no_link(tmp_path: Path) -> None:
    """Of runs, teachers and cached outputs; of links to them, and of links in them."""
    there = outside(tmp_path)
    before = contents(there)
    run = RunDir(tmp_path / "runs" / "x")
    run.path.mkdir(parents=True)
    run.preset.touch()
    run.lock.touch()
    run.checkpoints.symlink_to(there)
    (run.path / "student.safetensors").symlink_to(there / "distil-0-step-000001" / "thesis.tex")
    (tmp_path / "runs" / "link").symlink_to(there)
    remove_run(run.path)
    remove_run(tmp_path / "runs" / "link")
    assert contents(tmp_path / "runs") == []

    key = "0123456789abcdef"
    store, cache = TeacherStore(tmp_path / "store"), CacheStore(tmp_path / "cache")
    for root in (store.root, cache.root):
        root.mkdir()
        for linked in (False, True):
            if linked:
                (there / "facts.json").write_text("{}")
                (root / key).symlink_to(there)
            else:
                (root / key).mkdir()
                (root / key / "facts.json").write_text("{}")
                (root / key / "weights.safetensors").symlink_to(there)
            for entry in store.entries() if root == store.root else cache.entries():
                (store if root == store.root else cache).remove(entry)  # type: ignore[attr-defined, arg-type]
            (there / "facts.json").unlink(missing_ok=True)
            assert not [path for path in root.iterdir() if not path.name.startswith(".")], linked
    (tmp_path / "link").symlink_to(there)
    remove_tree(tmp_path / "link")
    assert contents(there) == before


def test_paths_that_are_no_text_are_written_as_their_escapes(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / os.fsdecode(b"run-\xff"))
    result = Run(tiny("train.epochs=1", "evaluate.student_alone=false"), run_dir.path, store=tmp_path / "teachers").execute()
    assert result.state == "done", result.message
    assert b"run-\\udcff" in run_dir.events.read_bytes()
