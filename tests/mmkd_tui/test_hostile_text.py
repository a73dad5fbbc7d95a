"""Names and messages of files are shown, and never obeyed: what every display writes, byte by byte."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from support import picture_sets
from support.hostile_text import LINES, NAME, raw_in, unprintable_in
from support.presets import TINY
from support.terminal import Terminal, wait_until

from engine.events import (
    CacheProgress,
    CheckpointSaved,
    EpochEnded,
    Event,
    Log,
    Metrics,
    PhaseStarted,
    RunEnded,
    RunStarted,
    StudentAloneReady,
    TeacherReady,
    to_line,
)
from mmkd_tui.cli.main import run_command
from mmkd_tui.progress import LiveProgress, PlainProgress, RunConsole

Capture = pytest.CaptureFixture[str]
FILE = NAME.replace("/", "")
KEY = "0123456789abcdef"
LAST = "the last line of all"


def events(count: int, state: str) -> Iterator[Event]:
    """A run that says so many lines, and whose every name is hostile."""
    yield RunStarted(
        t=1.7e9, name=NAME, run_dir=NAME, dataset=NAME, classes=(NAME, *LINES), teachers=(NAME, LINES[0]), student=NAME,
        method=NAME, device=NAME, seed=0,
    )  # fmt: skip
    yield PhaseStarted(t=1.7e9, phase="teacher", index=0, label=NAME, epochs=1, steps_per_epoch=10, parameters=1)
    yield TeacherReady(t=1.7e9, index=0, label=NAME, accuracy=0.9, source=NAME)
    yield StudentAloneReady(t=1.7e9, accuracy=0.8, source=NAME)
    yield CacheProgress(t=1.7e9, label=NAME, view=0, views=1, done=10, total=10, images_per_second=3.0)
    yield PhaseStarted(t=1.7e9, phase="distil", index=0, label=NAME, epochs=2, steps_per_epoch=10, parameters=1)
    numbers = {"phase": "distil", "index": 0, "step": 10, "lr": 0.1, "loss": None, "ce": 1.0, "accuracy": 0.5, "epoch": 0}
    weights = {"logit_weights": (0.5, 0.5), "feature_weights": (0.4, 0.6)}
    yield Metrics(t=1.7e9, steps=20, images_per_second=3.0, **numbers, **weights)  # type: ignore[arg-type]
    rows = tuple((0.5, 0.5) for _ in range(len(LINES) + 1))
    yield EpochEnded(t=1.7e9, logit_weights_by_class=rows, **numbers, **weights)  # type: ignore[arg-type]
    yield CheckpointSaved(t=1.7e9, path=NAME, step=10)
    for number in range(count):
        level = ("info", "warning", "error", NAME)[number % 4]
        yield Log(t=1.7e9, level=level, message=f"{LINES[number % len(LINES)]} {number}")
    yield RunEnded(t=1.7e9, state=state, message=NAME)
    yield Log(t=1.7e9, level="info", message=LAST)


def make_run(path: Path, count: int, state: str) -> None:
    path.mkdir(parents=True)
    with (path / "events.jsonl").open("w", errors="backslashreplace") as file:
        file.writelines(map(to_line, events(count, state)))
    with (path / "console.log").open("w", errors="surrogatepass") as console:
        console.writelines(f"{LINES[number % len(LINES)]}\n" for number in range(count))
        console.write(f"{NAME}\n{LAST}\n")
    teacher = {"name": NAME, "accuracy": 0.9, "source": NAME, "key": NAME, "logit_weight": 0.5, "feature_weight": 0.5}
    result = {"state": state, "message": NAME, "name": NAME, "method": NAME, "student_accuracy": 0.9, "teachers": [teacher] * 2}
    result |= {"selected_on": NAME, "images_per_second": 3.0, "versions": {NAME: NAME}, "student_alone_accuracy": 0.8}
    (path / "result.json").write_text(json.dumps(result))
    (path / "heartbeat.json").write_text(json.dumps({"phase": NAME, "step": 1, "steps": 2}))
    (path / "meta.json").write_text(json.dumps({"pid": 2, "host": NAME}))
    (path / "preset.yaml").write_text(f"# {NAME}\n{TINY}", errors="surrogatepass")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs, stores and data sets of hostile names."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("TEACHERS", "store"), ("TEACHER_CACHE", "cache"), ("DATA", f"data-{FILE}"), ("CONFIG", "config")):
        monkeypatch.setenv(f"MMKD_{name}", str(tmp_path / value))
    make_run(tmp_path / "runs" / f"1-{FILE}", 30, "done")
    make_run(tmp_path / "runs" / f"2-{FILE}", 30, "failed")
    facts = {
        "arch": NAME,
        "dataset": {"name": NAME},
        "created": NAME,
        NAME: [NAME, {NAME: NAME}],
        "teacher": NAME,
        "device": NAME,
    }
    for root in ("store", "cache"):
        (tmp_path / root / KEY).mkdir(parents=True)
        (tmp_path / root / KEY / "facts.json").write_text(json.dumps(facts))
    pictures = {f"{kind}{FILE}/{n}{FILE}.jpg": picture_sets.jpeg(n) if n else b"no picture" for kind in "ab" for n in range(5)}
    picture_sets.put(tmp_path / f"pictures-{FILE}", pictures)
    torch.save({NAME: torch.zeros(1), "fc.weight": torch.zeros(3)}, tmp_path / f"{FILE}.pth")
    (tmp_path / f"{FILE}.yaml").write_text(TINY.replace("name: tiny", f"name: tiny\nnonsense: {json.dumps(NAME)}"))
    (tmp_path / f"own-{FILE}.yml").write_text(TINY)
    return tmp_path


COMMANDS: dict[str, list[str]] = {
    "runs list": ["runs", "list"],
    "runs list --json": ["runs", "list", "--json"],
    "runs show, done": ["runs", "show", f"1-{FILE}"],
    "runs show, failed": ["runs", "show", f"2-{FILE}"],
    "runs show --json": ["runs", "show", f"2-{FILE}", "--json"],
    "runs show, several": ["runs", "show", FILE],
    "runs show, none": ["runs", "show", NAME],
    "runs rm": ["runs", "rm", f"1-{FILE}", "--yes"],
    "runs rm, older": ["runs", "rm", "--older-than", "0h", "--yes"],
    "resume": ["resume", f"1-{FILE}"],
    "stop": ["stop", f"1-{FILE}"],
    "attach": ["attach", f"1-{FILE}"],
    "teachers list": ["teachers", "list"],
    "teachers list --json": ["teachers", "list", "--json"],
    "teachers show": ["teachers", "show", KEY],
    "teachers show --json": ["teachers", "show", KEY, "--json"],
    "teachers show, none": ["teachers", "show", NAME],
    "teachers rm": ["teachers", "rm", KEY, "--yes"],
    "teachers check": ["teachers", "check", f"{FILE}.pth", "--arch", "resnet8", "--data", "digits"],
    "teachers check --json": ["teachers", "check", f"{FILE}.pth", "--arch", "resnet8", "--data", "digits", "--json"],
    "teachers check, none": ["teachers", "check", NAME, "--arch", NAME, "--data", NAME],
    "cache list": ["cache", "list"],
    "cache list --json": ["cache", "list", "--json"],
    "cache rm": ["cache", "rm", KEY, "--yes"],
    "data list": ["data", "list"],
    "data list --json": ["data", "list", "--json"],
    "data show": ["data", "show", "imagefolder", "--path", f"pictures-{FILE}"],
    "data show --json": ["data", "show", "imagefolder", "--path", f"pictures-{FILE}", "--json"],
    "data show, missing": ["data", "show", "cifar-10"],
    "data check": ["data", "check", "imagefolder", "--path", f"pictures-{FILE}"],
    "data check --json": ["data", "check", "imagefolder", "--path", f"pictures-{FILE}", "--json"],
    "data check, none": ["data", "check", "imagefolder", "--path", NAME],
    "presets check": ["presets", "check", f"{FILE}.yaml"],
    "presets show": ["presets", "show", f"{FILE}.yaml"],
    "presets show, none": ["presets", "show", NAME],
    "run": ["run", f"{FILE}.yaml"],
    "run, none": ["run", NAME, "--set", NAME],
    "table": ["table", "t.yaml", "--report-only"],
    "table --json": ["table", "t.yaml", "--report-only", "--json"],
    "table, wrong": ["table", f"{FILE}.yaml", "--report-only"],
    "no command": [NAME],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands(name: str, place: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (place / "tiny.yaml").write_text(TINY)
    label = json.dumps(f"{NAME}{LINES[10]}")
    (place / "t.yaml").write_text(
        f"name: t\ndescription: {label}\npresets: [tiny.yaml]\nmethods: [{{name: mmkd, label: {label}}}, {{name: aver}}]\n"
        f"seeds: [0]\npublished: [{{method: {label}, mean: 1.0, source: {label}}}]\n"
    )
    code = run_command(COMMANDS[name])
    assert code in (0, 1, 2)
    out, err = capfdbinary.readouterr()
    assert out + err
    for said in (out, err):
        assert unprintable_in(said.decode()) == set()
    assert b"Traceback" not in err
    assert b"something went wrong" not in err
    for file in place.glob("runs/tables/t/t.*"):
        assert unprintable_in(file.read_text()) == set()


def test_the_doctor(place: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", NAME)
    for more in ([], ["--json"]):
        assert run_command(["doctor", "--runs-dir", f"runs-{FILE}", *more]) in (0, 1)
        out, err = capfdbinary.readouterr()
        assert unprintable_in(out.decode()) | unprintable_in(err.decode()) == set()


COUNTS = [1_000, pytest.param(100_000, marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", COUNTS)
def test_plain_lines(count: int) -> None:
    out = io.StringIO()
    with PlainProgress(RunConsole(file=out, width=100)) as progress:
        progress(list(events(count, "failed")))
    said = out.getvalue()
    assert unprintable_in(said) == set()
    assert said.count("\n") > count
    assert "[bold red]EVIL[/]" in said  # as it stands


@pytest.mark.parametrize("count", COUNTS)
def test_the_live_picture(count: int) -> None:
    out = io.StringIO()
    told = list(events(count, "failed"))
    with LiveProgress(RunConsole(file=out, width=100, force_terminal=True)) as progress:
        for start in range(0, len(told), 500):
            progress(told[start : start + 500])
    written = out.getvalue().encode("utf-8", "surrogatepass")
    assert raw_in(written) == []
    assert b"x[bold]" in written


@pytest.fixture
def open_terminal(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(*arguments: str) -> Terminal:
        opened.append(Terminal(*arguments, size=(140, 45)))
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.end()


@pytest.mark.parametrize("count", COUNTS)
def test_the_app_on_a_terminal(count: int, place: Path, open_terminal: Callable[..., Terminal]) -> None:
    """Dashboard, weights by class, comparison, help and toasts of a run; then home with its runs, and the wizard."""
    run = place / "runs" / f"3-{FILE}"
    make_run(run, count, "failed")
    terminal = open_terminal("attach", os.fsdecode(run))
    # Near the end of what was written: all of it would be searched again and again.
    wait_until(lambda: LAST in terminal.text(max(terminal.mark() - 200, 0)), 300)
    steps = (("w", ""), ("w", ""), ("c", "Compare with"), ("\r", "other: "), ("E", "Copied"), ("F", "Copied"))
    for key, text in (*steps, ("Y", "Copied"), ("?", "Everywhere")):
        since = terminal.mark()
        terminal.type(key)
        terminal.wait(text, since=since)
    terminal.type("\x1b")
    since = terminal.mark()
    terminal.type("\x1b")
    terminal.wait("Presets", since=since)
    terminal.wait("x[bold]")
    own = terminal.raw()
    home = open_terminal("tui", "--runs-dir", "runs")
    home.wait("Presets", "x[bold]")
    since = home.mark()
    home.type("n")
    home.wait("Data", since=since)
    # Copying is the one thing that is asked of a terminal in words; what is copied is base64.
    assert raw_in(_without_copies(own)) == []
    assert raw_in(home.raw()) == []


def _without_copies(written: bytes) -> bytes:
    import re

    return re.sub(rb"\x1b\]52;c;[A-Za-z0-9+/=]*\x07", b"", written)
