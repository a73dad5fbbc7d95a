"""The documentation's commands are run, page by page and in order, each page in a folder, store and cache of its own.

What cannot be run here has an invisible comment above its block that says why: `<!-- not run: needs a terminal -->` for the
whole block, `<!-- not run, "cuda:1": needs a GPU -->` for the lines with that text. Trainings are made small by more `--set`.
"""

from __future__ import annotations

import glob
import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits
from support.presets import DEVICE

from mmkd_tui.cli.main import run_command

HOME = Path(__file__).parents[1]
PAGES = [HOME / "README.md", *sorted((HOME / "docs").glob("*.md"))]
BLOCK = re.compile(r"((?:^<!--[^\n]*-->\n\n?)*)^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r'<!-- not run(?:, "([^"]+)")?: (\S.{7,}?) -->')
LONG = ("mmkd table", "mmkd sweep", "--quantize", "method.meta.every")

SMALL = [
    "dataset.train_images=160",
    "teachers=[{arch: resnet8, train: {epochs: 1, batch_size: 32}}, {arch: resnet14, train: {epochs: 1, batch_size: 32}}]",
    "train.epochs=1",
    "train.batch_size=32",
    f"hardware={{device: {DEVICE}, compile: off, threads: 1}}",
    "method.meta.buffer_size=40",
    "method.meta.every=2",
    "evaluate={accept_weak_teachers: true, student_alone: false}",
]
MINE = """\
name: mine
dataset: {name: digits, train_images: 160}
teachers: [{arch: ARCH, train: {epochs: 1, batch_size: 32}}, {arch: resnet8, seed: 1, train: {epochs: 1, batch_size: 32}}]
student: {arch: resnet8}
method: {name: mmkd, meta: {every: 2, buffer_size: 40}}
train: {epochs: 1, batch_size: 32}
hardware: {device: DEVICE, compile: off, threads: 1}
evaluate: {accept_weak_teachers: true, student_alone: false}
"""


def smaller(words: list[str]) -> list[str]:
    """The same with a training of seconds; what the line itself sets stays."""
    if words[:2] == ["run", "quickstart"]:
        plain = any(word.startswith("method=") for word in words)
        more = [entry for entry in SMALL if not (plain and entry.startswith("method."))]
    elif words[0] in ("table", "sweep") or words[:3] == ["teachers", "train", "quickstart"]:
        more = [entry for entry in SMALL if not entry.startswith("method.")]
    else:
        return words
    given = {word.partition("=")[0] for word in words if "=" in word}
    for entry in more:
        key = entry.partition("=")[0]
        if key not in given and not any(name.startswith(f"{key}.") for name in given):
            words = [*words, "--set", entry]
    return words


def lines(page: Path) -> list[tuple[str, str]]:
    """Each line that a reader may type, and why it is not run, or ""."""
    found = []
    for comments, language, text in BLOCK.findall(page.read_text()):
        reasons = NOT_RUN.findall(comments)
        assert comments.count("<!-- not run") == len(reasons), f"{page.name}: a comment gives no reason: {comments}"
        if language not in ("sh", "console"):
            assert not reasons, f"{page.name}: {comments} stands above what is no command"
            continue
        typed = [line.removeprefix("$ ") for line in text.replace("\\\n", " ").splitlines()]
        for part, _ in reasons:
            assert any(part in line for line in typed), f"{page.name}: no line has {part}"
        found += [(line, next((why for part, why in reasons if part in line), "")) for line in typed]
    return found


def prepared(page: Path, folder: Path) -> None:
    """What the page takes for granted: its YAML files, a picture, a plugin, the run that it speaks of."""
    text = page.read_text()
    arch = "tiny" if "--plugin tiny.py" in text else "resnet14"
    for name in ("my.yaml", "my-pair.yaml"):
        (folder / name).write_text(MINE.replace("ARCH", arch).replace("DEVICE", DEVICE))
    for _, language, block in BLOCK.findall(text):
        for name in ("my-table", "my-sweep"):
            example = name == "my-sweep" and re.search("^trials: ", block, re.MULTILINE)
            if language == "yaml" and (example or re.search(rf"^name: {name}$", block, re.MULTILINE)):
                (folder / f"{name}.yaml").write_text(block)
        if language == "python" and 'register_architecture("tiny"' in block:
            (folder / "tiny.py").write_text(block)
    digits = load_digits()
    for number in range(20):
        picture = Image.fromarray((digits.images[number] * 15).astype("uint8"))
        for split in ("train", "test"):
            kind = folder / "my-pictures" / split / str(digits.target[number])
            kind.mkdir(parents=True, exist_ok=True)
            picture.save(kind / f"{number}.png")
    picture.save(folder / "picture.png")
    picture.save(folder / "other.jpg")


def typed(words: list[str], folder: Path) -> list[str]:
    """As the shell would give them, with a run's folder for each RUN."""
    runs = iter(sorted(str(path.parent) for path in folder.glob("runs/*/result.json")))
    found: list[str] = []
    for word in words:
        found += [next(runs)] if word == "RUN" else sorted(glob.glob(word)) if "*" in word else [word]  # noqa: PTH207
    return found


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `mmkd run quickstart` leaves: the run and its teachers, for the pages that begin where it has been typed."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MMKD_TEACHERS", str(folder / "teachers"))
        assert run_command(smaller(["run", "quickstart", "--quiet"])) == 0
    return folder


def test_every_line_is_run_or_says_why_not() -> None:
    """Whoever writes a line that is no `mmkd` command says how it is tried instead."""
    for page in PAGES:
        for line, why in lines(page):
            assert why or line.startswith("mmkd "), f"{page.name}: {line}"


@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["short", "whole"])
@pytest.mark.parametrize("page", [page for page in PAGES if any(not why for _, why in lines(page))], ids=lambda page: page.name)
def test_a_pages_commands_do_what_they_say(
    page: Path, long: bool, first_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.copytree(first_run / "teachers", tmp_path / "own-teachers")
    prepared(page, folder)
    commands = [line for line, why in lines(page) if not why and (long or not any(part in line for part in LONG))]
    if not any(line.startswith("mmkd run quickstart") for line in commands):
        shutil.copytree(first_run / "runs", folder / "runs")
    for name in ("student.onnx", "student.pt2"):
        if any(f"evaluate {name}" in line for line in commands):
            form = "onnx" if name.endswith("onnx") else "torch-export"
            assert run_command(["export", "quickstart", "--format", form, "-o", name]) == 0
    for line in commands:
        words = smaller(typed(shlex.split(line, comments=True)[1:], folder))
        capfd.readouterr()
        assert run_command(words) == 0, f"{page.name}: {line}\n{capfd.readouterr().err[-2000:]}"
