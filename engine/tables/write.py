"""Tables as Markdown, CSV, LaTeX (booktabs) and JSON: the same figures, written for people, spreadsheets, papers and programs."""

from __future__ import annotations

import csv
import io
import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.paths import private_folder, write_whole
from engine.tables.form import Published
from engine.tables.gather import Line, Report, Table
from engine.tables.statistics import Summary
from engine.text import md, one_line, plain

NONE = "n/a"
WIDTH = 80  # columns, for what people read in a terminal
_SHARED = ("ensemble", "alone", "method")  # lines that every preset of a table has
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "×": r"$\times$", "→": r"$\rightarrow$", "±": r"$\pm$", "−": "$-$", "α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$",
}  # fmt: skip
_CSV = (
    "table", "preset", "dataset", "student", "selected_on", "kind", "label", "method", "n", "mean", "std", "ci_low", "ci_high",
    "reference", "pairs", "difference", "p", "p_holm", "published_mean", "published_std", "published_source", "published_url",
)  # fmt: skip


def write_report(report: Report, folder: Path) -> tuple[Path, ...]:
    """NAME.md, NAME.csv and NAME.tex in `folder`; the paths. OSError where they cannot be written."""
    texts = {"md": as_markdown(report), "csv": as_csv(report), "tex": as_latex(report)}
    paths = tuple(folder / f"{report.name}.{ending}" for ending in texts)
    private_folder(folder)
    for path, text in zip(paths, texts.values(), strict=True):
        write_whole(path, text)
    return paths


def as_markdown(report: Report) -> str:
    """Columns line up as they stand, so that it can be read in a terminal, too."""
    parts = [_markdown(report, table) for table in report.tables]
    if len(report.tables) > 1:
        head, *rows = _overview(report)
        lines = _pipes([md(cell) for cell in head], [(md(label), *cells) for label, *cells in rows])
        parts.append("\n".join([f"## {md(report.name)}: all presets", "", *lines, ""]))
    return "\n".join(parts)


def _overview(report: Report) -> list[list[str]]:
    """Rows of one table over all presets: a column each, a line a method, `mean ± std`."""
    labels = dict.fromkeys(line.label for table in report.tables for line in table.lines if line.kind in _SHARED)
    found = [{line.label: line.summary for line in table.lines if line.kind in _SHARED} for table in report.tables]
    rows = [["method", *(plain(table.title) for table in report.tables)]]
    for label in labels:
        summaries = [lines.get(label, Summary(0)) for lines in found]
        rows.append([plain(label), *(_mean_std(summary.mean, summary.std) for summary in summaries)])
    return rows


def _markdown(report: Report, table: Table) -> str:
    title = f"## {md(report.name)}" + (f": {md(table.title)}" if len(report.tables) > 1 or table.title != report.name else "")
    caption = textwrap.fill(md(_caption(report, table)), WIDTH, break_long_words=False, break_on_hyphens=False)
    head = ("method", "mean", "std", "95 % CI", "n", "diff.", "p", "p Holm")
    rows = [_cells(line) for line in table.lines if line.kind != "published"]
    parts = [title, "", caption, "", *_pipes(head, [(md(first), *rest) for first, *rest in rows])]
    if any(line.published for line in table.lines):
        sources = _sources(table)
        titles = ("method", "ours", "published", "source")
        beside = [
            (md(line.label), _mean_std(line.summary.mean, line.summary.std), _mean_std(figure.mean, figure.std), f"({number})")
            for line in table.lines
            for figure in line.published
            for number in [sources.index(_source(figure)) + 1]
        ]
        parts += ["", *_pipes(titles, beside), ""]
        parts += [f"({number}) {md(text)}{_link(url)}\n" for number, (text, url) in enumerate(sources, 1)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _link(url: str | None) -> str:
    return f" <{url}>" if url else ""


def _pipes(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(_width(row[column]) for row in (head, *rows)) for column in range(len(head))]
    widths = [max(width, 2) for width in widths]  # of the rule below the head

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell + " " * (width - _width(cell)) if column == 0 else " " * (width - _width(cell)) + cell
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = [("-" * width if column == 0 else "-" * (width - 1) + ":") for column, width in enumerate(widths)]
    return [line(head), line(rule), *(line(row) for row in rows)]


def _width(text: str) -> int:
    """Columns of a terminal."""
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def as_csv(report: Report) -> str:
    """A row a line of each table, and one more for each further published figure of it; numbers unrounded, nothing for none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_CSV)
    for table in report.tables:
        for line in table.lines:
            for figure in line.published or (None,):
                writer.writerow(map(_cell, _record(report, table, line, figure)))
    return out.getvalue()


def _cell(content: object) -> object:
    """A spreadsheet takes a name that begins like a formula for one."""
    if isinstance(content, str) and content.startswith(("=", "+", "-", "@")):
        return f"'{content}"
    return "" if content is None else content


def _record(report: Report, table: Table, line: Line, figure: Published | None) -> tuple[object, ...]:
    summary, found = line.summary, line.comparison
    low, high = _interval(line)
    test = (plain(table.reference), found.pairs, found.difference, found.p, found.p_holm) if found else (None,) * 5
    return (
        report.name, table.title, table.dataset, table.student, table.selected_on, line.kind, plain(line.label), line.method,
        summary.n, summary.mean, summary.std, low, high,
        *test,
        *((figure.mean, figure.std, plain(figure.source), figure.url) if figure else (None,) * 4),
    )  # fmt: skip


def as_latex(report: Report) -> str:
    """A booktabs table for each preset: `\\usepackage{booktabs}`. The best mean of the methods is bold."""
    parts = [_latex(report, table) for table in report.tables]
    if len(report.tables) > 1:
        head, *rows = _overview(report)
        lines = [f"    {' & '.join(map(_tex, row))} \\\\" for row in rows]
        caption = f"{report.description} Test accuracy in % for each pair of teachers and student."
        parts.append(
            "\n".join(
                [
                    "\\begin{table*}[t]",
                    "  \\centering",
                    _filled(f"  \\caption{{{_tex(caption.strip())}}}"),
                    f"  \\label{{tab:{_slug(report.name)}}}",
                    f"  \\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
                    "    \\toprule",
                    f"    {' & '.join(_tex(cell) for cell in head)} \\\\",
                    "    \\midrule",
                    *lines,
                    "    \\bottomrule",
                    "  \\end{tabular}",
                    "\\end{table*}",
                    "",
                ]
            )
        )
    return "\n".join(parts)


def _latex(report: Report, table: Table) -> str:
    published = any(line.published for line in table.lines)
    head = ["Method", "Accuracy (\\%)", "95\\,\\% CI", "$n$", "Diff.", "$p$", "$p_\\mathrm{Holm}$"]
    head += ["Published (\\%)"] * published
    means = [line.summary.mean for line in table.lines if line.kind == "method"]
    best = max((mean for mean in means if mean is not None), default=None)
    sources = _sources(table)
    kinds = [line.kind in ("method", "published") for line in table.lines]
    rows = []
    for number, line in enumerate(table.lines):
        label, mean, std, interval, n, *rest = _cells(line)
        figure = _tex(mean if std in ("", NONE) else f"{mean} ± {std}")
        if line.kind == "method" and line.summary.mean == best and best is not None:
            figure = f"\\textbf{{{figure}}}"
        cells = [_tex(label), figure, _tex(interval), n, *(_tex(cell.replace("-", "−")) for cell in rest)]
        if published:
            cells.append(
                ", ".join(
                    f"{_tex(_mean_std(one.mean, one.std))}\\textsuperscript{{{sources.index(_source(one)) + 1}}}"
                    for one in line.published
                )
            )
        if number and kinds[number] and not kinds[number - 1]:
            rows.append("    \\midrule")
        rows.append(f"    {' & '.join(cells)} \\\\")
    notes = [
        f"  \\par\\smallskip\\footnotesize\\textsuperscript{{{number}}}\\,{_tex(text)}{f' {_tex(url)}' if url else ''}"
        for number, (text, url) in enumerate(sources, 1)
    ]
    label = _slug(f"{report.name}-{table.title}")
    return "\n".join(
        [
            "\\begin{table}[t]",
            "  \\centering",
            _filled(f"  \\caption{{{_tex(_caption(report, table))}}}"),
            f"  \\label{{tab:{label}}}",
            f"  \\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            "    \\toprule",
            f"    {' & '.join(head)} \\\\",
            "    \\midrule",
            *rows,
            "    \\bottomrule",
            "  \\end{tabular}",
            *notes,
            "\\end{table}",
            "",
        ]
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _filled(text: str) -> str:
    return textwrap.fill(text, 100, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def as_data(report: Report) -> dict[str, Any]:
    """For JSON. Accuracies and differences in % of the test split."""
    return {
        "name": report.name,
        "description": report.description,
        "tables": [
            {
                "preset": table.title,
                "dataset": table.dataset,
                "teachers": table.teachers,
                "student": table.student,
                "selected_on": table.selected_on,
                "reference": table.reference,
                "lines": [_line_data(line) for line in table.lines],
                "runs": [
                    {
                        "method": one.run.label,
                        "seed": one.run.seed,
                        "run_dir": str(one.run.folder),
                        "state": one.state,
                        "accuracy": one.accuracy,
                        "message": one.message,
                    }
                    for one in table.runs
                ],
            }
            for table in report.tables
        ],
    }


def _line_data(line: Line) -> dict[str, Any]:
    low, high = _interval(line)
    summary, found = line.summary, line.comparison
    data: dict[str, Any] = {"kind": line.kind, "label": line.label, "method": line.method or None}
    data |= {"n": summary.n, "mean": summary.mean, "std": summary.std, "ci95": None if low is None else [low, high]}
    data["comparison"] = found and {
        "pairs": found.pairs, "difference": found.difference, "p": found.p, "p_holm": found.p_holm
    }  # fmt: skip
    data["published"] = [figure.model_dump(exclude={"method", "preset"}) for figure in line.published]
    return data


def _caption(report: Report, table: Table) -> str:
    counts = Counter(table.teachers)
    teachers = ", ".join(arch if count == 1 else f"{count} × {arch}" for arch, count in counts.items())
    about = f"{report.description.rstrip('.')}. " if report.description else ""
    taught = f"{teachers} → {table.student}" if teachers else table.student
    text = f"{about}Test accuracy in % on {table.dataset}, {taught}; the best epoch is chosen on the {table.selected_on} split."
    if any(line.comparison for line in table.lines):
        text += f" Differences to {table.reference} and paired t-tests against it are over common seeds."
    if table.missing:
        text += f" {table.missing} of {len(table.runs)} runs are not done."
    return one_line(text)


def _cells(line: Line) -> tuple[str, ...]:
    """label, mean, std, half of the interval, n, difference, p, p after Holm; two decimals."""
    summary, found = line.summary, line.comparison
    if line.kind == "published":
        return (plain(line.label), *[""] * 7)
    single = line.kind in ("teacher", "ensemble")  # measured once: no deviation is missing
    figures = (_number(summary.mean), *("" if single else _number(value) for value in (summary.std, summary.half_width)))
    mean, std, half = figures
    half = f"± {half}" if half not in ("", NONE) else half
    n = str(summary.n)
    if found is None:
        return (plain(line.label), mean, std, half, n, "", "", "")
    difference = NONE if found.difference is None else f"{found.difference:+.2f}"
    return (plain(line.label), mean, std, half, n, difference, _p(found.p), _p(found.p_holm))


def _interval(line: Line) -> tuple[float | None, float | None]:
    mean, half = line.summary.mean, line.summary.half_width
    return (None, None) if mean is None or half is None else (mean - half, mean + half)


def _sources(table: Table) -> list[tuple[str, str | None]]:
    return list(dict.fromkeys(_source(figure) for line in table.lines for figure in line.published))


def _source(figure: Published) -> tuple[str, str | None]:
    return one_line(figure.source), figure.url


def _mean_std(mean: float | None, std: float | None) -> str:
    return _number(mean) if std is None else f"{_number(mean)} ± {std:.2f}"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _p(value: float | None) -> str:
    return NONE if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _tex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in one_line(text))
