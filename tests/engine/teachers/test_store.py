"""The store: whole entries or none, whatever lies in its folder and whoever writes beside us."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.refusal import little_memory, refused

from engine.errors import UnreadableError, UserError
from engine.teachers.store import TeacherStore

ROOT = Path(__file__).resolve().parents[3]
KEY, OTHER = "00112233445566aa", "00112233445566bb"
DATA = bytes(range(256)) * 10


@pytest.fixture
def store(tmp_path: Path) -> TeacherStore:
    return TeacherStore(tmp_path / "store")


def names(store: TeacherStore) -> list[str]:
    return sorted(path.name for path in store.root.iterdir())


def test_what_is_added_is_found(store: TeacherStore) -> None:
    added = store.add(KEY, DATA, {"arch": "vgg8", "created": "2026-01-01T00:00:00+00:00"})
    found = store.find(KEY)
    assert found is not None
    entry, data = found
    assert data == DATA
    assert entry == added
    assert entry.facts["arch"] == "vgg8"
    assert entry.facts["bytes"] == len(DATA)
    assert store.entries() == store.listed() == [entry]
    assert entry.trouble == ""
    assert names(store) == [KEY]
    assert sorted(path.name for path in entry.path.iterdir()) == ["facts.json", "weights.safetensors"]


def test_an_empty_store(store: TeacherStore) -> None:
    assert store.entries() == []
    assert store.find(KEY) is None


def test_only_a_store_that_is_not_there_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file is not a folder; name another one with MMKD_TEACHERS"):
        TeacherStore(tmp_path / "file").listed()
    refused(monkeypatch, "list", tmp_path, errno.EACCES)
    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        TeacherStore(tmp_path).listed()
    assert TeacherStore(tmp_path).entries() == []


def test_the_newest_is_last(store: TeacherStore) -> None:
    store.add(KEY, DATA, {"created": "2026-01-02"})
    store.add(OTHER, DATA, {"created": "2026-01-01"})
    assert [entry.key for entry in store.entries()] == [OTHER, KEY]


def test_the_first_stays(store: TeacherStore) -> None:
    store.add(KEY, DATA, {"who": "first"})
    store.add(KEY, b"other", {"who": "second"})
    found = store.find(KEY)
    assert found is not None
    assert (found[0].facts["who"], found[1]) == ("first", DATA)
    assert names(store) == [KEY]


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "folder"])
def test_damaged_weights_are_set_aside(damage: str, store: TeacherStore) -> None:
    weights = store.add(KEY, DATA, {}).path / "weights.safetensors"
    weights.unlink()
    if damage == "folder":
        weights.mkdir()
    elif damage != "missing":
        weights.write_bytes(DATA[:-1] if damage == "cut" else b"x" + DATA[1:])
    assert bool(store.listed()[0].trouble) is (damage != "changed")  # which only a look at every byte would tell
    assert store.find(KEY) is None
    assert store.entries() == []
    (aside,) = names(store)
    assert aside.endswith(".damaged")
    assert store.damaged[KEY] == f"its weights.safetensors is damaged; it is kept as {store.root / aside}"
    store.add(KEY, DATA, {})
    weights.write_bytes(b"again")
    assert store.find(KEY) is None
    assert len(names(store)) == 2
    store.add(KEY, DATA, {})
    assert store.find(KEY) is not None


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["facts.json", "weights.safetensors"])
def test_what_cannot_be_read_now_stays_and_is_told(
    name: str, number: int, store: TeacherStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another user keeps teachers in a store that is shared."""
    path = store.add(KEY, DATA, {}).path / name
    store.add(OTHER, DATA, {})
    with monkeypatch.context() as context:
        refused(context, "open", path, number)
        with pytest.raises(UnreadableError) as caught:
            store.find(KEY)
        for fragment in (str(path), os.strerror(number), "MMKD_TEACHERS"):
            assert fragment in str(caught.value)
        if name == "facts.json":
            assert os.strerror(number) in store.named(KEY).trouble
        assert [entry.key for entry in store.entries()] == ([OTHER] if name == "facts.json" else [KEY, OTHER])
        with pytest.raises(OSError, match=os.strerror(number)):  # a network at hand is not lost by that
            store.add(KEY, b"mine", {})
    assert names(store) == [KEY, OTHER]
    found = store.find(KEY)
    assert found is not None
    assert found[1] == DATA


def test_weights_for_which_memory_does_not_suffice_are_not_damaged(store: TeacherStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add(KEY, DATA, {})
    with monkeypatch.context() as context:
        little_memory(context, len(DATA))
        with pytest.raises(UnreadableError, match="more than half of the memory"):
            store.find(KEY)
    assert store.find(KEY) is not None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        b"\xff\xfe",
        b"[1]",
        b"null",
        b'"text"',
        b"[" * 100_000,
        b'{"n": ' + b"1" * 5000 + b"}",
        b"{}" + b" " * (2 << 20),
    ],
    ids=["empty", "garbage", "bytes", "list", "null", "text", "deep", "long number", "large"],
)
def test_garbage_for_facts_is_passed_over_and_replaced(content: bytes, store: TeacherStore) -> None:
    facts = store.add(KEY, DATA, {}).path / "facts.json"
    store.add(OTHER, DATA, {})
    facts.write_bytes(content)
    assert [entry.key for entry in store.entries()] == [OTHER]
    assert "facts.json is damaged" in store.named(KEY).trouble
    assert store.find(KEY) is None
    assert "facts.json is damaged" in store.damaged[KEY]
    store.add(KEY, DATA, {})
    assert store.find(KEY) is not None


def test_a_pipe_for_facts_does_not_wait_for_ever(store: TeacherStore) -> None:
    facts = store.add(KEY, DATA, {}).path / "facts.json"
    facts.unlink()
    os.mkfifo(facts)
    assert store.entries() == []


def test_numbers_that_json_has_not_become_null(store: TeacherStore) -> None:
    facts = store.add(KEY, DATA, {}).path / "facts.json"
    facts.write_text('{"a": NaN, "b": -Infinity, "c": 1e999, "d": 0.5}')
    assert store.entries()[0].facts == {"a": None, "b": None, "c": None, "d": 0.5}


@pytest.mark.parametrize("name", ["notes", "00112233445566AA", KEY[:-1], f"{KEY}.old", "é" * 16, ".hidden"])
def test_what_is_no_entry_is_passed_over(name: str, store: TeacherStore) -> None:
    entry = store.add(KEY, DATA, {})
    entry.path.rename(store.root / name)
    (store.root / OTHER).write_text("a file")
    assert store.listed() == []


def test_half_an_entry_is_replaced(store: TeacherStore) -> None:
    (store.root / KEY).mkdir(parents=True)
    (store.root / KEY / "weights.safetensors").write_bytes(DATA[:10])
    store.add(KEY, DATA, {})
    found = store.find(KEY)
    assert found is not None
    assert found[1] == DATA


def test_a_failed_write_leaves_nothing(store: TeacherStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            store.add(KEY, DATA, {})
    assert names(store) == []


def test_what_a_killed_process_left_is_cleared_away_in_time(store: TeacherStore, tmp_path: Path) -> None:
    old, new = store.root / f".{OTHER}.abcd.partial", store.root / f".{KEY}.efgh.partial"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").write_bytes(DATA[:10])
    (tmp_path / "elsewhere").mkdir()
    link = store.root / ".link.partial"
    link.symlink_to(tmp_path / "elsewhere")
    two_days_ago = time.time() - 2 * 86_400
    for path in (old, link):
        os.utime(path, (two_days_ago, two_days_ago), follow_symlinks=False)
    store.add(KEY, DATA, {})
    assert names(store) == sorted([new.name, link.name, KEY])  # who writes now is not disturbed, and no link is followed
    assert (tmp_path / "elsewhere").is_dir()


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("", "no teacher has a key"),
        ("ff", "no teacher has a key that begins with 'ff'"),
        ("0011", "2 teachers have keys that begin"),
        ("../x", "no teacher"),
    ],
)
def test_a_prefix_of_none_or_several(prefix: str, message: str, store: TeacherStore) -> None:
    store.add(KEY, DATA, {})
    store.add(OTHER, DATA, {})
    with pytest.raises(UserError, match=message.replace("begin", "begins?") if "2" in message else message):
        store.named(prefix)


def test_a_prefix_of_one(store: TeacherStore) -> None:
    store.add(KEY, DATA, {})
    store.add(OTHER, DATA, {})
    assert store.named(KEY).key == store.named(KEY[:15]).key == KEY


def test_remove(store: TeacherStore) -> None:
    entry, other = store.add(KEY, DATA, {}), store.add(OTHER, DATA, {})
    store.remove(entry)
    assert names(store) == [OTHER]
    store.remove(entry)  # another process was quicker
    assert store.entries() == [other]


def test_remove_follows_no_link(store: TeacherStore, tmp_path: Path) -> None:
    entry = store.add(KEY, DATA, {})
    elsewhere = tmp_path / "elsewhere"
    entry.path.rename(elsewhere)
    entry.path.symlink_to(elsewhere)
    (elsewhere / "more").symlink_to(tmp_path)
    store.remove(store.named(KEY))
    assert names(store) == []
    assert (elsewhere / "weights.safetensors").read_bytes() == DATA


def test_a_link_within_an_entry_is_not_followed(store: TeacherStore, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    entry = store.add(KEY, DATA, {})
    (entry.path / "link").symlink_to(precious)
    store.remove(entry)
    assert (precious / "file").exists()
    assert names(store) == []


WRITER = """
import sys, time
from pathlib import Path
from engine.teachers.store import TeacherStore
store, who, start = TeacherStore(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
print("ready", flush=True)
while not start.exists():
    time.sleep(0.001)
for n in range(40):
    key = f"{n:016x}"
    store.add(key, who.encode() * 1000, {"who": who})
    entry, data = store.find(key)
    assert data == entry.facts["who"].encode() * 1000
assert "torch" not in sys.modules
"""


def test_two_processes_add_the_same_keys(store: TeacherStore, tmp_path: Path) -> None:
    start = tmp_path / "start"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(store.root), who, str(start)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for who in "ab"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
    start.touch()
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors.decode()
    assert len(store.entries()) == 40
    assert all(store.find(entry.key) for entry in store.entries())
    assert len(names(store)) == 40


def test_what_is_being_put_there_is_not_taken_for_damaged(store: TeacherStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process keeps its teacher right after the look that found nothing."""
    other, look, lstat = TeacherStore(store.root), os.open, Path.lstat
    store.root.mkdir()

    def late(real: Callable[..., Any]) -> Callable[..., Any]:
        def called(path: Any, *args: Any, **named: Any) -> Any:
            try:
                return real(path, *args, **named)
            except FileNotFoundError:
                with monkeypatch.context() as context:
                    context.setattr(os, "open", look)
                    context.setattr(Path, "lstat", lstat)
                    other.add(KEY, DATA, {})
                raise

        return called

    with monkeypatch.context() as context:
        context.setattr(os, "open", late(look))
        context.setattr(Path, "lstat", late(lstat))
        store.find(KEY)
    assert (names(store), store.damaged) == ([KEY], {})
    assert store.find(KEY) is not None


@pytest.mark.parametrize("more", [0, 1], ids=["two processes", "three processes"])
def test_what_another_process_put_in_place_of_a_damaged_one_stays(
    more: int, store: TeacherStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen the damage; the other one is quicker."""
    other = TeacherStore(store.root)
    (store.add(KEY, b"x" * len(DATA), {}).path / "weights.safetensors").write_bytes(DATA[1:])
    rename = store._rename

    def late(folder: Path, why: str) -> Path | None:
        if not other.damaged:
            assert other.find(KEY) is None
            other.add(KEY, DATA, {"who": "other"})
            aside = rename(folder, why)
            if more:  # sees a gap where the second one's was
                other.add(KEY, DATA, {"who": "third"})
            return aside
        return rename(folder, why)

    monkeypatch.setattr(store, "_rename", late)
    found = store.find(KEY)
    assert found is not None
    assert (found[0].key, found[0].path, found[1]) == (KEY, store.root / KEY, DATA)
    assert found[0].facts["who"] == ("third" if more else "other")
    assert store.damaged == {}
    assert len(other.damaged) == 1


def test_one_that_cannot_be_read_any_more_is_put_back(store: TeacherStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is what was seen, nobody can tell then."""
    weights = store.add(KEY, DATA, {}).path / "weights.safetensors"
    weights.write_bytes(DATA[1:])
    rename = store._rename

    def failing(folder: Path, why: str) -> Path | None:
        aside = rename(folder, why)
        assert aside is not None
        for place in (aside, folder):
            refused(monkeypatch, "open", place / "facts.json", errno.EIO)
        return aside

    monkeypatch.setattr(store, "_rename", failing)
    with pytest.raises(UnreadableError, match=os.strerror(errno.EIO)):
        store.find(KEY)
    assert names(store) == [KEY]


def test_facts_are_readable_json(store: TeacherStore) -> None:
    entry = store.add(KEY, DATA, {"arch": "vgg8"})
    facts: dict[str, Any] = json.loads((entry.path / "facts.json").read_text())
    assert facts == entry.facts
