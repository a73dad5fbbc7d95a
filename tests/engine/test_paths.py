"""Files that are written whole: whoever writes one and dies on the way, leaves the old one or the new one."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from support.homeless import without_home
from support.saboteur import Crash, Saboteur

from engine.errors import UserError
from engine.paths import cache_dir, data_root, teacher_cache, teacher_store, write_whole

OLD, NEW = b"old" * 50_000, b"new" * 60_000


@pytest.mark.parametrize("dead", [False, True], ids=["one call fails", "killed"])
def test_a_crash_at_any_call_leaves_the_old_one_or_the_new_one(
    dead: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "student.safetensors"
    found = []
    for at in range(1, 20):
        write_whole(target, OLD)
        with monkeypatch.context() as context:
            saboteur = Saboteur(context, dead, at)
            with contextlib.suppress(Crash):
                write_whole(target, NEW)
        if saboteur.calls < at:
            break
        found.append(target.read_bytes())
        left = [path for path in tmp_path.iterdir() if path != target]
        assert all(path.name.startswith(".student.safetensors.") and path.suffix == ".partial" for path in left)
        assert dead or not left  # who lives on clears it away
        for path in left:
            path.unlink()
    assert found[0] == OLD
    assert found[-1] == NEW
    assert [content == NEW for content in found] == sorted(content == NEW for content in found)


def refuse_sync(monkeypatch: pytest.MonkeyPatch, number: int, folders: bool) -> None:
    real = os.fsync

    def sync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode) is folders:
            raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr(os, "fsync", sync)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF], ids=errno.errorcode.get)
def test_a_file_is_written_where_folders_cannot_be_synced(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on VirtualBox's shared folders and old CIFS."""
    refuse_sync(monkeypatch, number, folders=True)
    write_whole(tmp_path / "preset.yaml", NEW)
    assert (tmp_path / "preset.yaml").read_bytes() == NEW


@pytest.mark.parametrize(("number", "folders"), [(errno.EIO, True), (errno.EIO, False), (errno.EINVAL, False)])
def test_any_other_trouble_of_a_sync_is_an_error(
    number: int, folders: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_sync(monkeypatch, number, folders)
    with pytest.raises(OSError, match=os.strerror(number)):
        write_whole(tmp_path / "preset.yaml", NEW)


@pytest.mark.parametrize("place", [cache_dir, data_root, teacher_cache, teacher_store])
def test_without_a_home_folder_the_variables_are_named(place: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    without_home(monkeypatch)
    with pytest.raises(UserError) as caught:
        place()
    assert "MMKD_CACHE" in str(caught.value)
    assert "MMKD_TEACHERS" in str(caught.value)
    monkeypatch.setenv("MMKD_CACHE", "/somewhere")
    monkeypatch.setenv("MMKD_TEACHERS", "~/teachers")
    if place is teacher_store:
        with pytest.raises(UserError, match="MMKD_TEACHERS is ~/teachers, but there is no such home folder"):
            place()
    else:
        assert place().is_relative_to("/somewhere")
