"""`mmkd teachers`: data on stdout, narration on stderr, harmless whatever the facts say, and no torch but to train."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support.hosts import Watched, no_process_left, wait_until

from engine.events import Log, Metrics
from engine.models import build_model
from engine.paths import HOUR, teacher_store
from engine.teachers.store import Stored, TeacherStore
from mmkd_tui.cli.main import run_command

ROOT = Path(__file__).resolve().parents[3]
KEY, OTHER = "0123456789abcdef", "0123456789abcd00"
FACTS: dict[str, Any] = {
    "arch": "resnet20",
    "dataset": {"name": "digits"},
    "seed": 7,
    "recipe": {"epochs": 20, "milestones": None},
    "accuracy": 0.98765,
    "parameters": 272186,
    "created": "2026-01-02T03:04:05+00:00",
    "version": "0.1",
}
PRESET = """
name: two
dataset: {name: digits, train_images: 96}
teachers:
  - {arch: resnet8, seed: 0, train: {epochs: 1, batch_size: 32}}
  - {arch: resnet8, seed: 1, train: {epochs: 1, batch_size: 32}}
student: {arch: resnet8}
method: {name: aver}
"""

Capture = pytest.CaptureFixture[str]


def add(key: str = KEY, size: int = 1_200_000, **changes: object) -> Stored:
    return TeacherStore(teacher_store()).add(key, bytes(size), FACTS | changes)


def keys() -> list[str]:
    return [entry.key for entry in TeacherStore(teacher_store()).entries()]


def mmkd(*arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmkd_tui", *arguments]
    return subprocess.run(command, cwd=ROOT, stdin=stdin, capture_output=True, text=True, timeout=120, check=False)


def test_list(capsys: Capture) -> None:
    add()
    add(OTHER, 3_400_000, seed=8, created="2026-01-03T03:04:05+00:00")
    assert run_command(["teachers", "list"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    head, first, second = out.splitlines()
    assert " ".join(head.split()) == "key architecture data set seed epochs test accuracy parameters size made"
    assert first.split()[:10] == ["01234567", "resnet20", "digits", "7", "20", "98.77", "%", "272,186", "1.2", "MB"]
    assert first.split()[10].startswith("2026-01-0")
    assert second.split()[3] == "8"


def test_the_folder_of_ones_own_pictures_is_listed(capsys: Capture) -> None:
    add(dataset={"name": "imagefolder", "path": "/home/me/flowers"})
    add(OTHER, dataset={"name": "imagefolder", "path": "/home/me/birds"}, recipe={"epochs": 20, "label_noise": 0.3})
    assert run_command(["teachers", "list"]) == 0
    out = capsys.readouterr().out
    assert "imagefolder (flowers)" in out
    assert "imagefolder (birds, 30 % noise)" in out


def test_list_of_an_empty_store(capsys: Capture) -> None:
    assert run_command(["teachers", "list"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert str(teacher_store()) in err
    assert "mmkd teachers train" in err


@pytest.mark.parametrize("count", [0, 2])
def test_list_as_json(count: int, capsys: Capture) -> None:
    entries = [add(key) for key in (OTHER, KEY)[:count]]
    assert run_command(["teachers", "list", "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == [entry.facts | {"path": str(entry.path)} for entry in entries]


def test_what_is_damaged_is_told(capsys: Capture) -> None:
    cut, garbled = add(), add(OTHER)
    os.truncate(cut.path / "weights.safetensors", 1_000_000)
    (garbled.path / "facts.json").write_text("{")
    assert run_command(["teachers", "list"]) == 0
    out, err = capsys.readouterr()
    assert ["unusable" in line for line in out.splitlines()] == [False, True, True]
    for fragment in (f"{KEY[:8]} cannot be used", "1,000,000 bytes", "its facts.json is damaged", "trains it anew"):
        assert fragment in err
    assert run_command(["teachers", "list", "--json"]) == 0
    found = {entry["key"]: entry["trouble"] for entry in json.loads(capsys.readouterr().out)}
    assert found.keys() == {KEY, OTHER}
    for entry in (cut, garbled):
        assert run_command(["teachers", "show", entry.key]) == 0
        assert found[entry.key] in capsys.readouterr().out
    assert run_command(["teachers", "rm", OTHER, "--yes"]) == 0
    assert not garbled.path.exists()


WRONG: list[dict[str, Any]] = [
    {"arch": "\x1b[31m\u202e[bold]x[/nope]\n"},
    {"arch": "x" * 10_000},
    {"arch": 5, "dataset": 3, "seed": "\x1b]0;t\x07", "recipe": [1], "accuracy": "high", "parameters": None, "created": {}},
    {"accuracy": True, "created": "yesterday", "parameters": [], "recipe": {"epochs": {"a": 1}}, "dataset": {"name": ["\x1b"]}},
    {"dataset": {"name": "imagefolder", "path": "/x/\x1b[31m\0" + "x" * 5000}},
    {"created": "9999-12-31T23:59:59-23:00", "accuracy": 10**400, "seed": 10**4000},
    {"\x1b[31m[bold]": "\ud800", "nested": {"\x9b": ["\x1b"]}},
]


@pytest.mark.parametrize("facts", WRONG, ids=["markup", "long", "types", "more types", "path", "large", "names"])
def test_facts_are_not_believed(facts: dict[str, Any], capsys: Capture) -> None:
    add(**facts)
    for arguments in (["list"], ["show", KEY], ["list", "--json"], ["show", KEY, "--json"]):
        assert run_command(["teachers", *arguments]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert out.replace("\n", "").isprintable()
        if "--json" in arguments:
            json.loads(out)
    assert run_command(["teachers", "list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_show(capsys: Capture) -> None:
    add()
    assert run_command(["teachers", "show", KEY[:6]]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    shown = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert shown["arch"] == "resnet20"
    assert shown["key"] == KEY
    assert shown["path"] == str(teacher_store() / KEY)
    assert json.loads(shown["recipe"]) == FACTS["recipe"]


def test_show_as_json(capsys: Capture) -> None:
    entry = add()
    assert run_command(["teachers", "show", KEY, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == entry.facts | {"path": str(entry.path)}


@pytest.mark.parametrize("command", [["show"], ["rm", "--yes"]])
@pytest.mark.parametrize(
    ("key", "message"), [("f", "no teacher has a key"), ("0123", "2 teachers have keys"), ("", "no teacher")]
)
def test_a_key_of_none_or_several(command: list[str], key: str, message: str, capsys: Capture) -> None:
    add(KEY)
    add(OTHER)
    assert run_command(["teachers", *command, key]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"mmkd: {message}")
    assert "mmkd teachers list" in err
    assert len(keys()) == 2


def test_rm(capsys: Capture) -> None:
    add(KEY)
    add(OTHER)
    assert run_command(["teachers", "rm", KEY, KEY[:15], "--yes"]) == 0
    assert capsys.readouterr().err == f"removed {KEY} (1.2 MB)\n"
    assert keys() == [OTHER]


def test_what_an_interrupted_rm_left_goes_with_the_next() -> None:
    add(KEY)
    left = teacher_store() / f".{OTHER}.123-0.removed"
    left.mkdir()
    os.utime(left, (time.time() - 2 * HOUR,) * 2)
    assert run_command(["teachers", "rm", KEY, "--yes"]) == 0
    assert list(teacher_store().iterdir()) == []


def test_rm_removes_nothing_where_one_key_is_wrong(capsys: Capture) -> None:
    add(KEY)
    assert run_command(["teachers", "rm", KEY, "ffff", "--yes"]) == 2
    assert "'ffff'" in capsys.readouterr().err
    assert keys() == [KEY]


def test_rm_follows_no_link(tmp_path: Path) -> None:
    entry = add(KEY)
    entry.path.rename(tmp_path / "elsewhere")
    entry.path.symlink_to(tmp_path / "elsewhere")
    assert run_command(["teachers", "rm", KEY, "--yes"]) == 0
    assert (tmp_path / "elsewhere" / "weights.safetensors").exists()
    assert not os.path.lexists(entry.path)


def test_rm_asks_nobody_where_there_is_no_terminal() -> None:
    add(KEY)
    done = mmkd("teachers", "rm", KEY)
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert keys() == [KEY]


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("yes", 0), ("", 1), ("n", 1), ("x", 1)])
def test_rm_asks_in_a_terminal(answer: str, left: int) -> None:
    add(KEY)
    master, terminal = pty.openpty()
    command = [sys.executable, "-m", "mmkd_tui", "teachers", "rm", KEY[:8]]
    with subprocess.Popen(command, cwd=ROOT, stdin=terminal, stdout=subprocess.PIPE, stderr=terminal) as process:
        os.close(terminal)
        os.write(master, f"{answer}\n".encode())
        out, _ = process.communicate(timeout=60)
    said = os.read(master, 1 << 16).decode()
    os.close(master)
    assert out == b""
    assert "resnet20" in said
    assert "Remove this teacher for good? [y/N]" in said
    assert process.returncode == (1 if left else 0)
    assert len(keys()) == left


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["show", KEY], ["rm", KEY, "--yes"]], ids=" ".join)
def test_no_torch(arguments: list[str]) -> None:
    add(KEY)
    code = (
        "import sys\nfrom mmkd_tui.cli.main import run_command\n"
        f"assert run_command({['teachers', *arguments]!r}) == 0\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "torchvision", "safetensors", "numpy", "sklearn", "textual"} & set(done.stderr.split())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a preset of two teachers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "two.yaml").write_text(PRESET)
    return tmp_path


def rows_of(out: str) -> list[list[str]]:
    return [line.split(maxsplit=3) for line in out.splitlines()]


def result_in(place: Path) -> dict[str, Any]:
    """Of the only run there is."""
    (folder,) = (place / "runs").iterdir()
    found = json.loads((folder / "result.json").read_text())
    assert isinstance(found, dict)
    return found


def test_train(place: Path, capsys: Capture) -> None:
    assert run_command(["teachers", "train", "two.yaml", "--set", "teachers.1.train.lr=0.1", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    rows = rows_of(out)
    assert [(label, source) for _, label, _, source in rows] == [("resnet8-s0", "trained"), ("resnet8-s1", "trained")]
    assert sorted(key for key, *_ in rows) == sorted(keys())
    assert "two-teachers: 2 teachers alone on digits" in err
    assert "training teacher 1, resnet8-s0" in err
    assert "training teacher 2, resnet8-s1" in err
    assert "mmkd teachers list" in err
    assert "student" not in err
    (folder,) = (place / "runs").iterdir()
    assert folder.name.endswith("-two-teachers")

    assert run_command(["teachers", "train", "two.yaml", "--quiet", "--runs-dir", "elsewhere"]) == 0
    out, err = capsys.readouterr()
    again = rows_of(out)
    assert err == ""
    assert again[0] == [*rows[0][:3], "found in the store"]
    assert again[1][3] == "trained"  # another recipe: the first had --set
    assert len(keys()) == 3
    assert len(list((place / "elsewhere").iterdir())) == 1


def test_train_where_one_teacher_has_a_checkpoint(place: Path, capsys: Capture) -> None:
    torch.save(build_model("resnet8", 1, 10, 3).state_dict(), place / "foreign.pth")
    given = ["--set", "teachers.1={arch: resnet8, checkpoint: foreign.pth}", "--set", "evaluate.accept_weak_teachers=true"]
    assert run_command(["teachers", "train", "two.yaml", *given]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert [(label, source) for _, label, _, source in rows] == [("resnet8-s0", "trained"), ("foreign", "from its checkpoint")]
    assert [key for key, *_ in rows] == [*keys(), "-"]


def test_train_as_json_and_with_a_name_as_long_as_a_name_may_be(place: Path, capsys: Capture) -> None:
    (place / "two.yaml").write_text(PRESET.replace("two", "t" * 64))
    assert run_command(["teachers", "train", "two.yaml", "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    result = json.loads(out)
    assert result == result_in(place)
    assert result["only_teachers"] is True
    assert result["name"] == "t" * 55 + "-teachers"
    assert sorted(teacher["key"] for teacher in result["teachers"]) == sorted(keys())


def test_a_lost_terminal_ends_no_training(place: Path) -> None:
    command = [sys.executable, "-m", "mmkd_tui", "teachers", "train", "two.yaml", "--set", "teachers.0.train.epochs=40"]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, command)
    seen = b""
    while b"teachers alone on digits" not in seen:
        seen += os.read(terminal, 1 << 16)  # OSError where it ends instead
    assert not keys()
    os.close(terminal)  # the kernel sends SIGHUP
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert result_in(place)["state"] == "done"
    assert len(keys()) == 2


def test_a_full_disk_behind_stdout_is_told(place: Path) -> None:
    command = [sys.executable, "-m", "mmkd_tui", "teachers", "train", "two.yaml", "--quiet"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    (folder,) = (place / "runs").iterdir()
    assert done.returncode == 1
    assert done.stderr == (
        f"mmkd: the result cannot be written: No space left on device; runs/{folder.name}/result.json has it\n"
    )
    assert len(keys()) == 2


def test_ctrl_c_saves_and_resume_goes_on(place: Path, capsys: Capture) -> None:
    command = [sys.executable, "-m", "mmkd_tui", "teachers", "train", "two.yaml", "--set", "teachers.1.train.epochs=100000"]
    command += ["--set", "evaluate.every=100000", "--set", "checkpoints.every=null"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        events = wait_for_second_teacher(place)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert [(label, source) for _, label, _, source in rows_of(out)] == [("resnet8-s0", "trained")]
    folder = events.parent
    assert f"What there is, a checkpoint, is in runs/{folder.name}; finished teachers are in the store" in err
    assert result_in(place)["state"] == "stopped"
    with no_process_left(place / "runs"):
        assert run_command(["resume"]) == 0
        run = Watched(folder)
        run.wait_for(lambda event: isinstance(event, Log) and "resnet8-s1 goes on from" in event.message, "its checkpoint")
        run.wait_for(lambda event: isinstance(event, Metrics) and event.index == 1, "a step")
        capsys.readouterr()
        assert run_command(["stop"]) == 0
        assert "stopped" in capsys.readouterr().err


def wait_for_second_teacher(place: Path) -> Path:
    """The events of the only run, once they tell of a step of its second teacher."""

    def look() -> list[Path]:
        return [
            path for path in place.glob("runs/*/events.jsonl") if '"kind":"metrics"' in path.read_text().partition('"index":1')[2]
        ]

    wait_until(look, "a step of the second teacher")
    return look()[0]


def test_other_commands_on_such_a_run(place: Path, capsys: Capture) -> None:
    for _ in range(2):
        assert run_command(["teachers", "train", "two.yaml", "--quiet"]) == 0
    capsys.readouterr()
    names = sorted(path.name for path in (place / "runs").iterdir())

    assert run_command(["runs", "list"]) == 0
    for line in capsys.readouterr().out.splitlines()[1:]:  # of the same second, the second has a number behind its name
        assert re.search(r"-two-teachers\S* +finished +teacher 100% +teachers alone +\d", line), line
    assert run_command(["runs", "show", names[0]]) == 0
    out = capsys.readouterr().out
    assert "only_teachers: true" in out
    assert "plain average of the teachers" in out
    assert "distilled" not in out

    assert run_command(["report", names[0], "--format", "md"]) == 0
    assert run_command(["report", *names, "-o", "both.html"]) == 0
    text = (place / "runs" / names[0] / "report.md").read_text()
    assert "It trains 2 teachers on digits, and no student." in text
    assert "No student was trained" in text
    assert "Accuracy of resnet8-s1" in text
    assert "not over" not in text
    assert "None" not in text
    capsys.readouterr()

    assert run_command(["compare", *names]) == 0
    out, err = capsys.readouterr()
    assert "None" not in out
    assert err.count("has no student: it trained teachers alone") == 2
    for command in (["export", names[0]], ["evaluate", names[0]], ["predict", names[0], "x.png"]):
        assert run_command(command) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert f"{names[0]} has no student: it trained teachers alone" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quikstart"], "quickstart"),
        (["quickstart", "--set", "teachers.0.train.epochs=0"], "teachers.0.train.epochs"),
        (["quickstart", "--device", "gpu"], "cuda"),
    ],
)
def test_train_what_is_not_there(arguments: list[str], message: str, place: Path, capsys: Capture) -> None:
    assert run_command(["teachers", "train", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert not (place / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("teachers=[]", "method.name=ce"), "two has no teachers; name a preset that has some"),
        (
            ("method.name=ce",),
            "two: its method, ce, learns from no teachers; name a preset that does, or add --set method.name=aver",
        ),
        (("teachers.1.train.batch_size=97",), "teachers.1.train.batch_size is 97, more than the 96"),
    ],
)
def test_train_what_makes_no_sense(changes: tuple[str, ...], message: str, place: Path, capsys: Capture) -> None:
    options = [option for change in changes for option in ("--set", change)]
    assert run_command(["teachers", "train", "two.yaml", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"mmkd: {message}")
    assert err.count("\n") == 1
    assert not list(place.glob("runs/*"))
    assert keys() == []
