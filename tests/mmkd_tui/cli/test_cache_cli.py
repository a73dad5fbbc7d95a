"""`mmkd cache`: what is kept, without torch; removed whole, and never under a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import caches, nfs
from support.time_zone import in_tokyo

from engine.paths import HOUR, teacher_cache
from engine.teachers.cache_files import CacheStore
from mmkd_tui.cli.main import run_command

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def kept() -> list[str]:
    """Two views of two teachers; their keys."""
    caches.filled(teacher_cache(), caches.preset(2)).close()
    return [entry.key for entry in CacheStore(teacher_cache()).entries()]


def test_list(kept: list[str], capsys: Capture) -> None:
    assert run_command(["cache", "list"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 3
    for line, key, teacher in zip(lines[1:], kept, ("resnet8-s0", "resnet14-s1"), strict=True):
        for fragment in (key[:8], teacher, "digits", "700", " 2 ", "logits, features", "0.8 MB"):
            assert fragment in line
    assert "1.5 MB in" in err or "1.6 MB in" in err


def test_when_it_was_made_is_told_in_the_local_time(kept: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = teacher_cache() / kept[0] / "facts.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"created": "2026-01-02T20:04:05+00:00"}))
    with in_tokyo(monkeypatch):
        assert run_command(["cache", "list"]) == 0
    assert "2026-01-03 05:04" in capsys.readouterr().out


def test_list_as_json(kept: list[str], capsys: Capture) -> None:
    assert run_command(["cache", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["key"] for one in found] == kept
    assert found[0]["views"] == {"logits": 2, "features": 2}
    assert found[0]["in_use"] is False
    assert found[0]["bytes"] > 2 * 700 * (40 + 512)


def test_nothing_yet(capsys: Capture) -> None:
    assert run_command(["cache", "list"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "teacher_cache" in err


def test_listing_imports_no_torch(kept: list[str]) -> None:
    code = "import sys\nfrom mmkd_tui.cli.main import run_command\nrun_command(['cache', 'list'])\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert kept[0][:8] in done.stdout
    assert not {"torch", "torchvision", "numpy", "textual"} & set(done.stdout.splitlines()[-1].split())


def test_rm_by_key_and_all(kept: list[str], capsys: Capture) -> None:
    assert run_command(["cache", "rm", kept[0][:10], "--yes"]) == 0
    assert f"removed {kept[0]}" in capsys.readouterr().err
    assert [entry.key for entry in CacheStore(teacher_cache()).entries()] == kept[1:]
    assert run_command(["cache", "rm", "--all", "--yes"]) == 0
    assert list(teacher_cache().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["rm", "--yes"], "--all"),
        (["rm", "nope", "--yes"], "nothing in the teacher cache has a key that begins with 'nope'"),
        (["rm", "--all"], "--yes"),
    ],
)
def test_a_mistake_is_one_line(kept: list[str], arguments: list[str], fragment: str, capsys: Capture) -> None:
    assert run_command(["cache", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert fragment in err
    assert len(CacheStore(teacher_cache()).entries()) == 2


def test_what_a_run_uses_is_never_removed(kept: list[str], capsys: Capture) -> None:
    cached = caches.filled(teacher_cache(), caches.preset(1))
    before = caches.files(teacher_cache())
    assert run_command(["cache", "rm", kept[0], "--yes"]) == 2
    assert "in use" in capsys.readouterr().err
    assert run_command(["cache", "rm", "--all", "--yes"]) == 0
    assert "a run uses it" in capsys.readouterr().err
    assert caches.files(teacher_cache()) == before
    cached.close()
    assert run_command(["cache", "rm", "--all", "--yes"]) == 0
    assert caches.files(teacher_cache()) == {}


def test_on_nfs_what_no_run_uses_is_removed(kept: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    nfs.files_that_are_open_stay(monkeypatch)
    nfs.locks_of_ranges(monkeypatch)
    assert [entry.in_use for entry in CacheStore(teacher_cache()).entries()] == [False, False]
    assert run_command(["cache", "rm", "--all", "--yes"]) == 0
    assert list(teacher_cache().iterdir()) == []


def test_what_an_interrupted_rm_left_goes_with_the_next(kept: list[str]) -> None:
    old, new = (teacher_cache() / f".{key}.123.removed" for key in kept)
    for left in (old, new):
        left.mkdir()
        (left / "view-0000-logits.rows").write_bytes(b"rows")
    os.utime(old, (time.time() - 2 * HOUR,) * 2)  # the other one is being deleted by somebody
    assert run_command(["cache", "rm", "--all", "--yes"]) == 0
    assert list(teacher_cache().iterdir()) == [new]


def test_a_link_is_only_unlinked(kept: list[str], tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    (teacher_cache() / kept[0]).rename(target)
    (teacher_cache() / kept[0]).symlink_to(target)
    assert run_command(["cache", "rm", kept[0], "--yes"]) == 0
    assert (target / "facts.json").exists()


def test_hostile_facts_are_shown_as_text(kept: list[str], capsys: Capture) -> None:
    facts = {"teacher": "\x1b[31m[bold]x", "arch": 7, "images": [1], "created": None}
    (teacher_cache() / kept[0] / "facts.json").write_text(json.dumps(facts))
    assert run_command(["cache", "list"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[bold]x" in out
