"""`mmkd presets`: what it prints where, and that every wrong preset gives one clear line, exit code 2 and no traceback."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine import plugins
from engine.preset_yaml import load_preset, parse_preset
from mmkd_tui.cli.main import run_command

ROOT = Path(__file__).resolve().parents[3]
WRONG = sorted((ROOT / "tests" / "wrong_presets").glob("*.yaml"))
IN_A_PROCESS = ("unknown_key_in_meta", "alias_bomb", "python_tag", "escape_is_far_too_large", "key_with_control_characters")

Capture = pytest.CaptureFixture[str]


def mmkd(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mmkd_tui", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def expectation(path: Path) -> tuple[int, list[str]]:
    """From `# expect: LINE: fragment | fragment`, the first line of each wrong preset."""
    first = path.read_text().split("\n", 1)[0]
    line, _, fragments = first.removeprefix("# expect: ").partition(": ")
    return int(line), fragments.split(" | ")


def assert_one_clear_line(path: Path, code: int, out: str, err: str) -> None:
    line, fragments = expectation(path)
    assert code == 2
    assert out == ""
    assert err.endswith("\n")
    assert err[:-1].isprintable()  # one line, and nothing in it that a terminal would obey
    assert err.startswith(f"{path}:{line}: ")
    assert len(err) < len(str(path)) + 400
    message = err.removeprefix(f"{path}:{line}: ")
    for fragment in fragments:
        assert fragment in message
    assert "Traceback" not in err


def test_a_preset_may_come_on_stdin(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def given(content: bytes, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        code = run_command(["presets", *arguments])
        return code, *capsys.readouterr()

    good = (ROOT / "presets" / "quickstart.yaml").read_bytes()
    assert given(good, "check", "-") == (0, "stdin: ok\n", "")
    assert given(good, "show", "-")[1].encode() == good
    assert "epochs: 3\n" in given(good, "show", "-", "--set", "train.epochs=3")[1]
    code, _, err = given(good + b"\nnope: 1\n", "check", "-")
    assert code == 2
    assert err.startswith(f"stdin:{len(good.splitlines()) + 2}: nope: ")
    assert given(b"", "check", "-")[2].startswith("stdin:1: the preset is empty")
    assert given(b"name: " + b"x" * 300_000, "check", "-")[2] == "stdin: is larger than 256 KB; no preset needs so much\n"


def test_there_are_fifty_wrong_presets() -> None:
    assert len(WRONG) >= 50


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_a_wrong_preset_gives_one_clear_line(path: Path, capsys: Capture) -> None:
    code = run_command(["presets", "check", str(path)])
    assert_one_clear_line(path, code, *capsys.readouterr())


@pytest.mark.parametrize("name", IN_A_PROCESS)
def test_a_wrong_preset_in_a_process_of_its_own(name: str) -> None:
    path = ROOT / "tests" / "wrong_presets" / f"{name}.yaml"
    done = mmkd("presets", "check", str(path))
    assert_one_clear_line(path, done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("content", "fragments"),
    [
        (b"name: " + b"x" * 300_000, [": is larger than 256 KB"]),
        (b"name: caf\xe9\n", [":1: the byte 0xe9 is not UTF-8", "save the file as UTF-8"]),
        (b"\x7fELF\x02\x01\x01\x00\x00", [":1: the character U+007F is not allowed"]),
        (b"\x1f\x8b\x08\x00", [":1: the byte 0x8b is not UTF-8"]),
        (b"a: " + b"[" * 3000, [":1: more than 20 levels"]),
        (b"a: " + b"{b: " * 3000, [":1: more than 20 levels"]),
        (b"a: " + b"- " * 3000, [":1: "]),
        (b"- " * 3000, [":1: more than 20 levels"]),
        (b"? " + b"[" * 3000, [":1: a list or mapping as a key"]),
        (b"", [":1: the preset is empty"]),
        (b"\n\n  \n", ["the preset is empty"]),
    ],
    ids=range(11),
)
def test_content_that_is_no_preset(content: bytes, fragments: list[str], tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    assert run_command(["presets", "check", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(str(path))
    for fragment in fragments:
        assert fragment in err


def test_check_says_ok_for_each_right_one_and_goes_on_after_a_wrong_one(tmp_path: Path, capsys: Capture) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: a\nname: b\n")
    assert run_command(["presets", "check", "quickstart", str(wrong), "nope", str(tmp_path), "fashion-mnist"]) == 2
    out, err = capsys.readouterr()
    assert out == "quickstart: ok\nfashion-mnist: ok\n"
    lines = err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"{wrong}:2: name: ")
    assert lines[1].startswith("mmkd: there is no preset 'nope'")
    assert lines[2].startswith(f"{tmp_path}: is")


def test_check_with_overrides(capsys: Capture) -> None:
    assert run_command(["presets", "check", "quickstart", "--set", "train.epochs=3"]) == 0
    assert run_command(["presets", "check", "quickstart", "fashion-mnist", "--set", "train.epochs=abc"]) == 2
    err = capsys.readouterr().err
    assert err == "--set train.epochs=abc: train.epochs: 'abc' is not a whole number; write for example 240 (epochs)\n"


def test_a_plugin_is_taken_where_the_message_asks_for_it(tmp_path: Path, capsys: Capture) -> None:
    plugin, preset = tmp_path / "mine.py", tmp_path / "p.yaml"
    plugin.write_text(
        "import engine\nengine.register_architecture('of-my-own', lambda *fit: engine.build_model('resnet8', *fit))\n"
    )
    preset.write_text("name: a\ndataset: {name: digits}\nstudent: {arch: of-my-own}\nmethod: {name: ce}\n")
    commands = (["presets", "check", str(preset)], ["presets", "show", str(preset), "--resolved"])
    for command in commands:
        assert run_command(command) == 2
        assert "(one of your own needs --plugin FILE)" in capsys.readouterr().err
    try:
        for command in commands:
            assert run_command([*command, "--plugin", str(plugin)]) == 0
    finally:
        plugins.forget()


def test_list(capsys: Capture) -> None:
    assert run_command(["presets", "list"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    first = out.splitlines()[1]
    for shown in ("quickstart", "digits", "3 × resnet20 → resnet8", "mmkd"):
        assert shown in first


def test_list_as_json(capsys: Capture) -> None:
    assert run_command(["presets", "list", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries["quickstart"]["teachers"] == ["resnet20"] * 3
    assert entries["quickstart"]["student"] == "resnet8"
    assert entries["fashion-mnist"]["problem"] is None


def test_a_broken_shipped_preset_is_listed_with_its_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("engine.preset_yaml.presets_dir", lambda: tmp_path)
    (tmp_path / "broken.yaml").write_text("name: [bold]\n")
    assert run_command(["presets", "list"]) == 0
    assert "is not text" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_list_tells_of_the_wrong_presets_of_this_folder(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(["presets", "list", *options]) == 0
    before = capsys.readouterr()
    (tmp_path / "docker-compose.yaml").write_text("services: {}\n")
    (tmp_path / "my typo.yaml").write_text("name: \x1b\nstudnet: {}\n")
    (tmp_path / "typo.yaml").write_text("name: typo\nstudnet: {}\n")
    assert run_command(["presets", "list", *options]) == 0
    after = capsys.readouterr()
    assert (after.out, before.err) == (before.out, "")
    first, second = after.err.splitlines()
    assert first.startswith("my typo.yaml:1: the character U+001B")
    assert second.startswith("typo.yaml:2: studnet: there is no key 'studnet'")
    assert second.endswith("(more: mmkd presets check typo.yaml)")


def test_show_prints_the_file_as_it_stands(capsys: Capture) -> None:
    assert run_command(["presets", "show", "quickstart"]) == 0
    assert capsys.readouterr().out == (ROOT / "presets" / "quickstart.yaml").read_text()


def test_show_resolved_reads_back_as_the_same_preset(capsys: Capture) -> None:
    assert run_command(["presets", "show", "quickstart", "--resolved"]) == 0
    assert parse_preset(capsys.readouterr().out, "out") == load_preset(ROOT / "presets" / "quickstart.yaml")
    assert run_command(["presets", "show", "quickstart", "--set", "seed=7"]) == 0
    assert parse_preset(capsys.readouterr().out, "out").seed == 7


def test_show_makes_a_hostile_file_harmless(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("# \x1b]0;title\x07 \u202e\nname: a\n")
    assert run_command(["presets", "show", str(path)]) == 0
    assert capsys.readouterr().out == "# \\x1b]0;title\\x07 \\u202e\nname: a\n"


def test_schema_is_json(capsys: Capture) -> None:
    assert run_command(["presets", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "mmkd preset"


def test_presets_alone_shows_its_help(capsys: Capture) -> None:
    assert run_command(["presets"]) == 0
    assert "check" in capsys.readouterr().out
