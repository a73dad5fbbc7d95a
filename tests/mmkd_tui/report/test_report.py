"""`mmkd report`: one page that says what runs came to, needs nothing else, and obeys nothing that stands in a run's folder."""

from __future__ import annotations

import io
import json
import re
import shutil
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from support.analysed import made_up, png
from support.finished import write_finished
from support.presets import tiny

from engine.analysis import Analysis, analysis_text
from engine.preset import Preset
from mmkd_tui.cli.main import run_command
from mmkd_tui.report.thumbnail import thumbnail

HOSTILE = ("</script><script>fetch('http://evil')</script>", "[/red]x[bold]", "\x1b]0;gone\x07", "a|b`c", "\u202egnp")
NO_CHROMIUM = shutil.which("chromium") is None


def preset(*overrides: str) -> Preset:
    method = "method={name: mmkd, beta: 10, meta: {buffer_size: 64}}"
    return tiny(method, "teachers=[{arch: resnet8}, {arch: resnet14, seed: 1}]", *overrides)


class Page(HTMLParser):
    """Its words, its tables' rows, what it would fetch, and its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.fetched: list[str] = []
        self.scripts: list[str] = []
        self.tags: list[str] = []
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._in = tag
        self.tags.append(tag)
        self.fetched += [
            value or "" for name, value in attributes if name in ("src", "href") and not (value or "").startswith("#")
        ]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, text: str) -> None:
        if self._in == "script":
            self.scripts[-1] += text
        elif self._in in ("td", "th", "a") and self.rows:
            self.rows[-1][-1] += text
        elif self._in != "style":
            self.words.append(text)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Of a run with the worst of names."""
    folder = tmp_path_factory.mktemp("runs")
    write_finished(folder / "one", preset(), HOSTILE)
    assert run_command(["report", str(folder / "one")]) == 0
    return Page((folder / "one" / "report.html").read_text())


def test_it_says_what_the_distillation_brought(page: Page) -> None:
    words = " ".join(page.words)
    assert "reaches 90.00 % on the test split" in words
    assert "5.00 points more than the same student without teachers (85.00 %)" in words
    assert "6.00 points less than the plain average of the teachers (96.00 %)" in words
    assert "resnet14-s1 counts most: 0.75, where equal weights are 0.50. resnet8-s0 is trusted most on 1 of 5 classes" in words
    rows = {row[0]: row[1:] for row in page.rows}
    assert rows["teacher resnet14-s1"] == ["95.00 %", "0.750", "0.750"]
    assert rows["student without teachers"][0] == "85.00 %"


def test_its_charts_have_the_curves(page: Page) -> None:
    specs = json.loads(page.scripts[0])
    kinds = ("accuracy", "loss", "logit-weights", "feature-weights", "by-class", "meta")
    assert set(specs) == {f"run-1-{name}" for name in kinds}
    rows = specs["run-1-accuracy"]["layer"][0]["data"]["values"]
    assert [row["value"] for row in rows if row["what"] == "validation"] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75]
    assert {rule["what"] for rule in specs["run-1-accuracy"]["layer"][2]["data"]["values"]} == {
        "teacher resnet8-s0", "teacher resnet14-s1", "student without teachers"
    }  # fmt: skip
    cells = specs["run-1-by-class"]["data"]["values"]
    assert len(cells) == 2 * 5 * 2
    assert {cell["teacher"] for cell in cells if cell["weight"] > 0.5 and cell["class"].startswith("0:")} == {"resnet8-s0"}


def test_teachers_and_runs_whose_names_begin_alike_stay_apart(tmp_path: Path) -> None:
    begun = "timm-vit_base_patch16_clip_quickgelu_224.dfn2b-run-"
    teachers = ", ".join(f"{{arch: resnet8, checkpoint: /{begun}{end}.safetensors}}" for end in ("good", "poor"))
    runs = [tmp_path / f"{begun}{begun}{end}" for end in ("one", "two")]
    for run in runs:
        write_finished(run, preset(f"teachers=[{teachers}]"), ("a", "b"))
        (run / "analysis.json").write_text(analysis_text(made_up(2, 2)))
    assert run_command(["report", *map(str, runs), "-o", str(tmp_path / "all.html")]) == 0
    page = Page((tmp_path / "all.html").read_text())
    specs = json.loads(page.scripts[0])
    weights = specs["run-1-logit-weights"]["layer"][0]["data"]["values"]
    lines = {name: [row["value"] for row in weights if row["what"] == name] for name in {row["what"] for row in weights}}
    assert sorted(lines) == [f"{k}: {begun[:39]}…" for k in (1, 2)]
    assert len(set(map(len, lines.values()))) == 1  # none has the points of both
    assert len({row["teacher"] for row in specs["run-1-by-class"]["data"]["values"]}) == 2
    assert len({row["teacher"] for row in specs["run-1-test-weights"]["data"]["values"]}) == 2
    assert len({rule["what"] for rule in specs["run-1-accuracy"]["layer"][2]["data"]["values"]}) == 3
    assert len(set(specs["run-1-confusion"]["params"][0]["bind"]["labels"])) == 3
    assert len({row["what"] for row in specs["together"]["layer"][0]["data"]["values"]}) == 2


def test_it_fetches_nothing_and_obeys_nothing(page: Page) -> None:
    assert page.fetched == []
    assert len(page.scripts) == 2  # the charts' figures, and the program: none of a class's name
    assert "b" not in page.tags
    assert "\x1b" not in "".join([*page.words, *page.scripts])
    assert "\u202e" not in "".join([*page.words, *page.scripts])
    assert any("<b>of its own</b>" in word for word in page.words)


def analysed_run(folder: Path, analysis: Analysis | str | None, names: tuple[str, ...] = HOSTILE) -> Page:
    """A finished run's report, with this for its analysis."""
    write_finished(folder, preset(), names)
    if analysis is not None:
        text = analysis if isinstance(analysis, str) else analysis_text(analysis)
        (folder / "analysis.json").write_text(text)
    assert run_command(["report", str(folder)]) == 0
    return Page((folder / "report.html").read_text())


def test_student_against_teachers(tmp_path: Path) -> None:
    page = analysed_run(tmp_path / "one", made_up(5, 2))
    words = " ".join(page.words)
    assert "Of 50 test images the student and the teachers' average both get 47 right and 0 wrong" in words
    assert [
        "[/red]x[bold]",
        HOSTILE[0][:39] + "…",
        "3",
        "1.3 of 2",
    ] in page.rows  # it is; is said to be; images; right
    assert ["resnet8-s0", "0.500", "0.500", "0.500", "", "50.00 %"] in page.rows  # whom the logit weights trust
    assert "is right on 97.50 %, 0.50 points more than their plain average (97.00 %)" in words
    specs = json.loads(page.scripts[0])
    chart = specs["run-1-confusion"]
    assert chart["params"][0]["bind"]["labels"] == ["the teachers' average", "resnet8-s0", "resnet14-s1"]
    cells = {(row["is"][0], row["said"][0]): (row["s"], row["t"]) for row in chart["data"]["values"]}
    assert (cells["1", "0"], cells["1", "1"]) == ((3, [0, 0, 0]), (7, [10, 10, 10]))


def test_the_hardest_images_with_who_was_trusted(tmp_path: Path) -> None:
    page = analysed_run(tmp_path / "one", made_up(5, 2))
    assert page.tags.count("article") == page.tags.count("img") == 24
    assert all(source.startswith("data:image/png;base64,") for source in page.fetched)
    rows = [row for row in page.rows if row[:1] == ["resnet14-s1"] and len(row) == 3]
    assert len(rows) == 24
    assert rows[0] == ["resnet14-s1", "[/red]x[bold], 60%", "0.10"]  # what it says, its logit weight; no feature weights
    assert "features" not in {cell for row in page.rows for cell in row}
    assert len(page.scripts) == 2
    assert not {"b", "red"} & set(page.tags)
    assert "\x1b" not in "".join([*page.words, *page.scripts, *(cell for row in page.rows for cell in row)])


@pytest.mark.parametrize(
    ("analysis", "said"),
    [(None, "left no analysis.json"), ("{}", "is damaged"), (made_up(5, 3), "is damaged"), (made_up(2, 2), "")],
)
def test_an_analysis_that_is_missing_damaged_or_of_other_teachers(
    tmp_path: Path, analysis: Analysis | str | None, said: str
) -> None:
    page = analysed_run(tmp_path / "one", analysis)
    words = " ".join(page.words)
    assert "reaches 90.00 % on the test split" in words
    assert (said in words) if said else ("Confusions and hardest images cannot be told" not in words)
    assert ("img" in page.tags) != bool(said)


def test_pictures_that_are_none_are_not_shown(tmp_path: Path) -> None:
    whole = png(np.random.default_rng(1), 8)
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    bomb = whole[:8] + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + whole[33:]
    svg, large = b"<svg onload='alert(1)'/>", png(np.random.default_rng(1), 65)
    for content in (b"", svg, bomb, large, whole[:60], whole[:40] + bytes(20) + whole[60:], whole[:24]):
        assert thumbnail(content) == b""
    found = made_up(5, 2)
    hardest = (replace(found.hardest[0], png=svg), replace(found.hardest[1], png=bomb), *found.hardest[2:])
    assert analysed_run(tmp_path / "one", replace(found, hardest=hardest)).tags.count("img") == 22


def test_of_a_picture_only_its_pixels_are_shown() -> None:
    file, about = io.BytesIO(), PngImagePlugin.PngInfo()
    about.add_text("Comment", "EVIL" * 10)
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    Image.fromarray(pixels).save(file, "PNG", pnginfo=about)
    shown = thumbnail(file.getvalue() + b"EVIL")
    assert b"EVIL" not in shown
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(shown))), pixels)


def test_several_runs_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for number, beta in enumerate((10, 20)):
        changed = preset(f"method.beta={beta}", f"seed={number}")
        write_finished(tmp_path / "runs" / f"run-{number}", changed, ("a", "b"), student=0.9 + number / 100)
    assert run_command(["report", "run-0", "run-1"]) == 0
    page = Page((tmp_path / "report.html").read_text())
    rows = {row[0]: row[1:] for row in page.rows}
    assert rows["run-1"][2] == "91.00 %"
    assert rows["method.beta"] == ["10.0", "20.0"]
    assert rows["seed"] == ["0", "1"]
    assert "method.alpha" not in rows
    assert "together" in json.loads(page.scripts[0])
    capsys.readouterr()
    assert run_command(["report", "run-0", "run-1"]) == 2
    assert "report.html is there already; --force replaces it" in capsys.readouterr().err
    assert run_command(["report", "run-0", "run-1", "--force", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in told["runs"]] == ["run-0", "run-1"]


def test_seeds_are_put_together_and_tested(tmp_path: Path) -> None:
    runs = []
    for beta, seed, accuracy in ((10, 0, 0.80), (10, 1, 0.82), (20, 0, 0.85), (20, 1, 0.88)):
        runs.append(tmp_path / f"beta-{beta}-{seed}")
        write_finished(runs[-1], preset(f"method.beta={beta}", f"seed={seed}"), ("a", "b"), student=accuracy)
    assert run_command(["report", *map(str, runs), "-o", str(tmp_path / "all.html")]) == 0
    rows = {row[0]: row[2:] for row in Page((tmp_path / "all.html").read_text()).rows if row[0] in ("A", "B")}
    assert rows["A"][:3] == ["2", "81.00 %", "1.41"]
    assert rows["B"][:3] == ["2", "86.50 %", "2.12"]
    assert rows["B"][4:6] == ["+5.50", "0.058"]  # t = 11 with one degree of freedom


def test_markdown_with_pictures(tmp_path: Path) -> None:
    write_finished(tmp_path / "one", preset(), HOSTILE)
    assert run_command(["report", str(tmp_path / "one"), "-o", str(tmp_path / "said.md")]) == 0
    text = (tmp_path / "said.md").read_text()
    assert "| teacher resnet14-s1 | 95.00 % | 0.750 | 0.750 |" in text
    assert "\\[red\\]a warning\\[/red\\]" in text
    shown = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(shown) == 6
    assert "left no analysis.json" in text
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in shown)


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("a.html", (), "html"), ("a.HTM", (), "html"), ("a.md", (), "md"), ("a.markdown", (), "md"),
        ("a.txt", ("--format", "html"), "html"), ("a", ("--format", "md"), "md"), ("a.md", ("--format", "md"), "md"),
    ],
)  # fmt: skip
def test_the_format_is_that_of_the_ending(name: str, options: tuple[str, ...], kind: str, tmp_path: Path) -> None:
    write_finished(tmp_path / "one", preset(), ("a", "b"))
    assert run_command(["report", str(tmp_path / "one"), "-o", str(tmp_path / name), *options]) == 0
    assert (tmp_path / name).read_text().startswith("<!") == (kind == "html")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.pdf", (), "a report ends with .html or .md"),
        ("a.docx", (), "a report ends with .html or .md"),
        ("a", (), "a report ends with .html or .md"),
        ("a.html", ("--format", "md"), "a file of the format md does not end with .html"),
        ("a.md", ("--format", "html"), "a file of the format html does not end with .md"),
    ],
)
def test_an_ending_of_another_format_is_refused(
    name: str, options: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_finished(tmp_path / "one", preset(), ("a", "b"))
    assert run_command(["report", str(tmp_path / "one"), "-o", str(tmp_path / name), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / name).exists()


def test_markdown_of_what_was_made_of_the_test_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_finished(tmp_path / "one", preset(), (HOSTILE[0], f"{HOSTILE[1]}~~", *HOSTILE[2:]))
    (tmp_path / "one" / "analysis.json").write_text(analysis_text(made_up(5, 2)))
    assert run_command(["report", str(tmp_path / "one"), "-o", str(tmp_path / "said.md"), "--json"]) == 0
    text = (tmp_path / "said.md").read_text()
    assert "### Mistakes that the student makes and its teachers do not" in text
    assert "| resnet8-s0 | 0.500 | 0.500 | 0.500 |  | 50.00 % |" in text
    assert "\\[/red\\]x\\[bold\\]\\~\\~, 60%; logits 0.10 |" in text  # the second teacher on the hardest image
    assert {"said-run-1-confusion.png", "said-run-1-test-weights.png"} <= {path.name for path in tmp_path.iterdir()}
    (told,) = json.loads(capsys.readouterr().out)["runs"]
    assert told["judged"]["hardest"][0]["opinions"][1]["logit_weight"] == 0.1


def test_a_run_that_is_not_over(tmp_path: Path) -> None:
    write_finished(tmp_path / "one", preset(), ("a", "b"), ended=False)
    assert run_command(["report", str(tmp_path / "one")]) == 0
    words = " ".join(Page((tmp_path / "one" / "report.html").read_text()).words)
    assert "The run crashed; mmkd resume goes on with it. So far resnet8 reaches 75.00 % on the validation split." in words


def test_nothing_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runs" / "empty").mkdir(parents=True)
    (tmp_path / "runs" / "empty" / "events.jsonl").touch()
    assert run_command(["report", "--runs-dir", str(tmp_path / "runs")]) == 2
    assert "has said nothing yet" in capsys.readouterr().err


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_finished(tmp_path / "one", preset(), ("a", "b"))
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert run_command(["report", str(tmp_path / "one")]) == 2
    assert "pip install 'mmkd-tui[report]'" in capsys.readouterr().err


@pytest.mark.skipif(NO_CHROMIUM, reason="needs Debian's package chromium")
@pytest.mark.slow
def test_in_a_browser(tmp_path: Path) -> None:
    """Five teachers and a hundred classes: every chart is drawn, nothing complains, nothing is asked for."""
    teachers = ", ".join(f"{{arch: resnet8, seed: {number}}}" for number in range(5))
    write_finished(tmp_path / "one", preset(f"teachers=[{teachers}]"), tuple(f"class {number}" for number in range(100)))
    (tmp_path / "one" / "analysis.json").write_text(analysis_text(made_up(100, 5, side=64)))
    assert run_command(["report", str(tmp_path / "one")]) == 0
    target = tmp_path / "one" / "report.html"
    assert target.stat().st_size < 3_000_000
    for size in ("1280,900", "400,900"):
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=20000"]
        command = ["chromium", *flags, f"--window-size={size}", "--dump-dom", target.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert 'data-drawn="8"' in done.stdout
        assert done.stdout.count('<svg xmlns="http://www.w3.org/2000/svg"') == 8
        assert "CONSOLE" not in done.stderr
