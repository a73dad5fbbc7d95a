"""The documentation says what is so: its commands exist, its reference is the program's, its example runs, its site is whole."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support.command_line import understood

import engine
from engine.preset_yaml import parse_preset

HOME = Path(__file__).parents[1]
PAGES = [HOME / "README.md", *sorted((HOME / "docs").rglob("*.md")), HOME / "benchmarks" / "README.md"]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(*languages: str) -> Iterator[tuple[str, str]]:
    """The fenced texts of these languages, with the page that each stands on."""
    for page in PAGES:
        for language, text in FENCE.findall(page.read_text()):
            if language in languages:
                yield str(page.relative_to(HOME)), text


def commands() -> list[tuple[str, str]]:
    """Every `mmkd ...` that a reader may type."""
    found = []
    for page, text in blocks("sh", "console"):
        if page == "docs/reference/commands.md":
            continue  # made from the program, with placeholders
        for line in text.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|[|>]", line.partition("  #")[0]):
                words = part.strip().removeprefix("$ ").removeprefix(".venv/bin/")
                if words.startswith("mmkd "):
                    found.append((page, words))
    return found


def loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HOME / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_are_understood(page: str, line: str) -> None:
    """Every option and subcommand is there; nothing is done."""
    understood(line)


def test_the_reference_is_the_programs() -> None:
    for name, text in loaded("make_reference").pages().items():
        assert (HOME / "docs" / "reference" / name).read_text() == text, f"{name} is old: python docs/make_reference.py"
        assert not re.search(r" or +\|", text), "a kind of value that is not told"


def test_the_loop_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    loaded("own_loop").main()
    rows = [[float(word) for word in line.split()] for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 4  # every second of eight steps
    assert all(sum(row) == pytest.approx(1, abs=2e-3) for row in rows)
    assert rows[0] != rows[-1]


def test_the_architecture_of_ones_own(tmp_path: Path) -> None:
    (text,) = (text for page, text in blocks("python") if page == "docs/extending.md")
    code = f"{text}\nmodel = engine.build_model('tiny', 3, 5)\nprint(model(torch.zeros(2, 3, 32, 32)).features.shape)"
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "torch.Size([2, 32, 8, 8])"


def test_pieces_of_presets_are_right() -> None:
    rest = "name: mine\nstudent: {arch: resnet8}\ntrain: {epochs: 1}\n"
    data, teachers = "dataset: {name: digits}\n", "teachers: [{arch: resnet8}, {arch: resnet8, seed: 1}]\n"
    seen = 0
    for page, text in blocks("yaml"):
        if page in ("docs/teachers.md", "docs/data.md"):
            parts = (("dataset:", data), ("teachers:", teachers))
            more = "".join(part for key, part in parts if not re.search(f"^{key}", text, re.MULTILINE))
            assert parse_preset(rest + more + text, page).student.arch == "resnet8"
            seen += 1
    assert seen >= 2


def test_public_names() -> None:
    assert all(getattr(engine, name) is not None for name in engine.__all__)
    assert torch.is_tensor(engine.build_model("resnet8", 1, 3)(torch.zeros(2, 1, 16, 16)).logits)


def test_the_site_is_whole(tmp_path: Path) -> None:
    """Strict: no link leads nowhere."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "library" / "index.html").read_text()
    assert "make_method" in page
    assert "--8&lt;--" not in page
