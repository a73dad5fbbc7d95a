"""The `mmkd` command itself: help that is quick, one message for every error, and the exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.homeless import without_home
from textual.app import App

from engine.errors import PresetError, UserError
from mmkd_tui.app import MmkdApp
from mmkd_tui.cli import main as cli

ROOT = Path(__file__).resolve().parents[3]
HEAVY = {
    "engine.preset",
    "torch",
    "torchvision",
    "numpy",
    "sklearn",
    "textual",
    "rich",
    "yaml",
}  # pydantic is Typer's own need in its newer versions

Capture = pytest.CaptureFixture[str]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def failing_app(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("mmkd_tui.cli.presets.print_table", fail)


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"], ["presets", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    run = f"import sys\nfrom mmkd_tui.cli.main import run_command\nassert run_command({arguments!r}) == 0\n"
    done = python(run + "print(*sys.modules, file=sys.stderr)")
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not HEAVY & set(done.stderr.split())


def test_presets_import_no_torch() -> None:
    done = python("import sys, mmkd_tui.cli.presets, engine.preset_yaml\nprint(*sys.modules)")
    assert not {"torch", "torchvision", "textual", "rich"} & set(done.stdout.split())


def test_version(capsys: Capture) -> None:
    assert cli.run_command(["--version"]) == 0
    assert capsys.readouterr().out.startswith("mmkd ")


def test_alone_it_shows_its_help(capsys: Capture) -> None:
    assert cli.run_command([]) == 0
    alone = capsys.readouterr().out
    assert cli.run_command(["--help"]) == 0
    assert capsys.readouterr().out == alone
    assert "presets" in alone


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "No such command 'nope'"),
        (["presets", "nope"], "No such command 'nope'"),
        (["--nope"], "No such option: --nope"),
        (["presets", "show"], "Missing argument 'NAME_OR_PATH'"),
        (["presets", "check"], "Missing argument"),
        (["presets", "check", "--set"], "--set"),
        (["presets", "nope\x1b[31m\u202e"], "nope"),
    ],
)
def test_usage_errors_are_one_message(arguments: list[str], message: str, capsys: Capture) -> None:
    assert cli.run_command(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mmkd: ")
    assert message in err
    assert "--help'" in err
    assert err[:-1].isprintable()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("no such thing \x1b[31m[bold]"), 2, "mmkd: no such thing \\x1b[31m[bold]\n"),
        (PresetError(("f:1: a", "f:2: b")), 2, "f:1: a\nf:2: b\n"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(5), 5, ""),
    ],
    ids=["user", "preset", "interrupt", "exit"],
)
def test_errors(error: BaseException, code: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    failing_app(monkeypatch, error)
    assert cli.run_command(["presets", "list"]) == code
    assert capsys.readouterr().err == message


def test_an_unexpected_error(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    failing_app(monkeypatch, ZeroDivisionError("by\nzero \x1b"))
    monkeypatch.delenv("MMKD_DEBUG", raising=False)
    assert cli.run_command(["presets", "list"]) == 1
    assert capsys.readouterr().err == (
        "mmkd: something went wrong inside mmkd: ZeroDivisionError: by zero \\x1b; "
        "please report it (set MMKD_DEBUG=1 to see the traceback)\n"
    )
    monkeypatch.setenv("MMKD_DEBUG", "1")
    assert cli.run_command(["presets", "list"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"'{sys.executable}' -m mmkd_tui presets schema | true"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [["presets", "schema"], ["presets", "list"], ["runs", "list", "--json"], ["data", "list"], ["--help"]],
    ids=" ".join,
)
def test_an_answer_that_a_full_disk_does_not_take_is_told(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    with open("/dev/full", "w") as full, monkeypatch.context() as context:  # noqa: PTH123
        context.setattr(sys, "stdout", full)
        assert cli.run_command(arguments) == 1
    assert capsys.readouterr().err == "mmkd: the answer cannot be written: No space left on device\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(closed: str) -> None:
    command = f"'{sys.executable}' -m mmkd_tui presets list {closed}; echo $?"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.endswith("0\n")
    assert ("quickstart" in done.stdout) is (">&-" not in closed.split())
    assert done.stderr == ""


def test_a_terminal_that_knows_only_ascii_gets_escapes() -> None:
    code = "import sys; from mmkd_tui.cli.main import main; sys.argv = ['mmkd', 'presets', 'list']; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PYTHONPATH": os.environ["PYTHONPATH"], "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "\\u2192" in done.stdout


@pytest.mark.parametrize("arguments", [["tui"], ["teachers", "list"], ["cache", "list"], ["data", "list"], ["run", "quickstart"]])
def test_without_a_home_folder_there_is_one_message(
    arguments: list[str], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_home(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    assert cli.run_command(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(
        "mmkd: this user has no home folder to keep things in; set MMKD_CACHE and MMKD_TEACHERS to folders, or HOME\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [None, RuntimeError("a fault")])
def test_an_app_that_crashes_has_failed(error: Exception | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(app: MmkdApp) -> None:
        if error is not None:
            raise error
        app.exit("")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(MmkdApp, "on_mount", leave)
    monkeypatch.setattr(MmkdApp, "run", lambda app, mouse: App.run(app, headless=True))
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    assert cli.run_command(["tui"]) == (1 if error else 0)


@pytest.mark.parametrize(
    "arguments", [["runs", "list", "--runs-dir", "~no-such-user/x"], ["run", "quickstart", "--plugin", "~no-such-user/x"]]
)
def test_the_home_of_somebody_who_is_not_there(arguments: list[str], capsys: Capture) -> None:
    assert cli.run_command(arguments) == 2
    assert "write the path out in full" in capsys.readouterr().err
