"""File systems: that of the mount which a path lies on, by the system's own table."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.nfs import mounted_at

from engine.file_systems import file_system, on_network


def test_the_innermost_mount_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = file_system(tmp_path)
    assert not on_network(tmp_path)
    home = tmp_path / "my é home"
    mounted_at(monkeypatch, home, "nfs4")
    mounted_at(monkeypatch, home / "scratch", "ext4")
    assert file_system(home / "runs" / "not there yet") == "nfs4"
    assert on_network(home)
    assert file_system(home / "scratch" / "x") == "ext4"
    assert file_system(tmp_path / "my é home, too") == here
    (tmp_path / "link").symlink_to(home)
    assert on_network(tmp_path / "link" / "runs")


def test_where_the_system_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_text(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", read_text)
    assert file_system(tmp_path) == ""
    assert not on_network(tmp_path)
