"""What is written, literally; and that hostile names stay text."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.presets import tiny

from engine.tables.form import Published
from engine.tables.gather import FinishedRun, Line, Report, Table
from engine.tables.plan import PlannedRun
from engine.tables.statistics import Comparison, Summary
from engine.tables.write import as_csv, as_data, as_latex, as_markdown, write_report

SOURCE = Published(
    method="MMKD", mean=75.76, std=0.2, source="Somebody & others, table 1", url="https://arxiv.org/abs/2306.06634"
)


def report(label: str = "AVER", published: tuple[Published, ...] = (SOURCE,), missing: bool = False) -> Report:
    runs = tuple(
        FinishedRun(PlannedRun(name, 0, tiny(), Path(f"runs/{name}")), "done", 75.0, 70.0, "") for name in ("MMKD", label)
    )
    if missing:
        runs = (*runs[:1], FinishedRun(runs[1].run, "failed", None, None, "out of memory"))
    lines = (
        Line("teacher", "teacher vgg13-s0", Summary(1, 75.174)),
        Line("ensemble", "teachers' average", Summary(1, 77.07)),
        Line("alone", "student alone", Summary(2, 70.5, 0.2, 1.8)),
        Line("method", "MMKD", Summary(5, 75.8, 0.529, 0.657), "mmkd", None, published),
        Line("method", label, Summary(5, 74.96, 0.313, 0.389), "aver", Comparison(5, -0.84, 0.0004, 0.0421)),
        Line("method", "once", Summary(1, 74.0), "ce", Comparison(1, -1.25)),
        Line("published", "elsewhere", Summary(0), published=(Published(method="elsewhere", mean=76.0, source="Others"),)),
    )
    table = Table("vgg-pair", "digits", "vgg8", ("vgg13", "vgg13", "resnet8"), "validation", "MMKD", lines, runs)
    return Report("pairs", "Two methods.", (table,))


def test_markdown() -> None:
    assert (
        as_markdown(report())
        == """\
## pairs: vgg-pair

Two methods. Test accuracy in % on digits, 2 × vgg13, resnet8 → vgg8; the best
epoch is chosen on the validation split. Differences to MMKD and paired t-tests
against it are over common seeds.

| method            |  mean |  std | 95 % CI |  n | diff. |      p | p Holm |
| ----------------- | ----: | ---: | ------: | -: | ----: | -----: | -----: |
| teacher vgg13-s0  | 75.17 |      |         |  1 |       |        |        |
| teachers' average | 77.07 |      |         |  1 |       |        |        |
| student alone     | 70.50 | 0.20 |  ± 1.80 |  2 |       |        |        |
| MMKD              | 75.80 | 0.53 |  ± 0.66 |  5 |       |        |        |
| AVER              | 74.96 | 0.31 |  ± 0.39 |  5 | -0.84 | <0.001 |  0.042 |
| once              | 74.00 |  n/a |     n/a |  1 | -1.25 |    n/a |    n/a |

| method    |         ours |    published | source |
| --------- | -----------: | -----------: | -----: |
| MMKD      | 75.80 ± 0.53 | 75.76 ± 0.20 |    (1) |
| elsewhere |          n/a |        76.00 |    (2) |

(1) Somebody & others, table 1 <https://arxiv.org/abs/2306.06634>

(2) Others
"""
    )


def test_csv_has_every_figure_unrounded() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(report()))))
    assert [row["label"] for row in rows] == [line.label for line in report().tables[0].lines]
    assert {row["selected_on"] for row in rows} == {"validation"}
    mmkd, aver = rows[3:5]
    assert (mmkd["mean"], mmkd["std"], mmkd["reference"], mmkd["p"]) == ("75.8", "0.529", "", "")
    assert (mmkd["published_mean"], mmkd["published_source"]) == ("75.76", "Somebody & others, table 1")
    assert float(mmkd["ci_low"]) == pytest.approx(75.8 - 0.657)
    assert float(mmkd["ci_high"]) == pytest.approx(75.8 + 0.657)
    assert (aver["pairs"], aver["difference"], aver["p"], aver["p_holm"]) == ("5", "-0.84", "0.0004", "0.0421")
    assert (aver["reference"], aver["published_mean"]) == ("MMKD", "")


def test_latex() -> None:
    assert (
        as_latex(report())
        == r"""\begin{table}[t]
  \centering
  \caption{Two methods. Test accuracy in \% on digits, 2 $\times$ vgg13, resnet8 $\rightarrow$ vgg8;
    the best epoch is chosen on the validation split. Differences to MMKD and paired t-tests against
    it are over common seeds.}
  \label{tab:pairs-vgg-pair}
  \begin{tabular}{lrrrrrrr}
    \toprule
    Method & Accuracy (\%) & 95\,\% CI & $n$ & Diff. & $p$ & $p_\mathrm{Holm}$ & Published (\%) \\
    \midrule
    teacher vgg13-s0 & 75.17 &  & 1 &  &  &  &  \\
    teachers' average & 77.07 &  & 1 &  &  &  &  \\
    student alone & 70.50 $\pm$ 0.20 & $\pm$ 1.80 & 2 &  &  &  &  \\
    \midrule
    MMKD & \textbf{75.80 $\pm$ 0.53} & $\pm$ 0.66 & 5 &  &  &  & 75.76 $\pm$ 0.20\textsuperscript{1} \\
    AVER & 74.96 $\pm$ 0.31 & $\pm$ 0.39 & 5 & $-$0.84 & \textless{}0.001 & 0.042 &  \\
    once & 74.00 & n/a & 1 & $-$1.25 & n/a & n/a &  \\
    elsewhere &  &  &  &  &  &  & 76.00\textsuperscript{2} \\
    \bottomrule
  \end{tabular}
  \par\smallskip\footnotesize\textsuperscript{1}\,Somebody \& others, table 1 https://arxiv.org/abs/2306.06634
  \par\smallskip\footnotesize\textsuperscript{2}\,Others
\end{table}
"""
    )


def test_the_columns_are_those_of_what_is_there() -> None:
    """Without published figures, no column of theirs, and the table lines up in 80 columns."""
    text = as_markdown(report("CA-MKD, 3 teachers", published=()).__class__("pairs", "", (without_published(),)))
    assert "published" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(row) for row in rows}) == 1
    assert max(map(len, text.splitlines())) <= 80


def without_published() -> Table:
    table = report("CA-MKD, 3 teachers", published=()).tables[0]
    lines = tuple(line for line in table.lines if line.kind != "published")
    return Table(table.title, table.dataset, table.student, table.teachers, "validation", "MMKD", lines, table.runs)


def test_names_are_text_in_every_format() -> None:
    hostile = "a|b_*c* [x](y) <i>\x1b[2J\u202e$5% & \\end{table}^~#"
    markdown = as_markdown(report(hostile))
    assert r"a\|b\_\*c\* \[x\](y) \<i\>" in markdown.replace("\\\\x1b", "")
    latex = as_latex(report(hostile))
    assert r"\$5\% \& \textbackslash{}end\{table\}\textasciicircum{}\textasciitilde{}\#" in latex
    assert latex.count(r"\end{table}") == 1
    for text in (markdown, latex, as_csv(report(hostile)), json.dumps(as_data(report(hostile)))):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert next(row for row in csv.DictReader(io.StringIO(as_csv(report(hostile)))) if row["method"] == "aver")["mean"] == "74.96"


def test_runs_that_are_missing_are_said() -> None:
    assert "1 of 2 runs are not done." in as_markdown(report(missing=True)).replace("\n", " ")
    (table,) = as_data(report(missing=True))["tables"]
    assert [(run["state"], run["accuracy"], run["message"]) for run in table["runs"]] == [
        ("done", 75.0, ""), ("failed", None, "out of memory")
    ]  # fmt: skip


def test_data_for_programs() -> None:
    (table,) = as_data(report())["tables"]
    assert table["selected_on"] == "validation"
    line = next(line for line in table["lines"] if line["label"] == "AVER")
    assert line["comparison"] == {"pairs": 5, "difference": -0.84, "p": 0.0004, "p_holm": 0.0421}
    assert line["ci95"] == [pytest.approx(74.96 - 0.389), pytest.approx(74.96 + 0.389)]
    assert table["lines"][3]["published"] == [{"mean": 75.76, "std": 0.2, "source": SOURCE.source, "url": SOURCE.url}]


def test_several_presets_end_in_a_table_of_them_all() -> None:
    (first,) = report(published=()).tables
    second = replace(first, title="other_pair", lines=first.lines[3:5])
    both = Report("pairs", "", (first, second))
    rows = [line for line in as_markdown(both).split("## pairs: all presets")[1].splitlines() if line]
    assert rows == [
        "| method            |     vgg-pair |  other\\_pair |",
        "| ----------------- | -----------: | -----------: |",
        "| teachers' average |        77.07 |          n/a |",
        "| student alone     | 70.50 ± 0.20 |          n/a |",
        "| MMKD              | 75.80 ± 0.53 | 75.80 ± 0.53 |",
        "| AVER              | 74.96 ± 0.31 | 74.96 ± 0.31 |",
        "| once              |        74.00 |          n/a |",
    ]
    latex = as_latex(both).split(r"\begin{table*}")[1]
    assert r"Method" not in latex
    assert r"    method & vgg-pair & other\_pair \\" in latex
    assert r"    MMKD & 75.80 $\pm$ 0.53 & 75.80 $\pm$ 0.53 \\" in latex


def test_the_three_files(tmp_path: Path) -> None:
    paths = write_report(report(), tmp_path / "out")
    assert [path.name for path in paths] == ["pairs.md", "pairs.csv", "pairs.tex"]
    assert paths[0].read_text() == as_markdown(report())


@pytest.mark.parametrize("label", ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)"])
def test_a_spreadsheet_takes_no_name_for_a_formula(label: str) -> None:
    row = next(row for row in csv.DictReader(io.StringIO(as_csv(report(label)))) if row["method"] == "aver")
    assert (row["label"], row["difference"]) == (f"'{label}", "-0.84")
