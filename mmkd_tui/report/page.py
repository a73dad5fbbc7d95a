"""The report as a file: one HTML page that needs nothing else, or Markdown with pictures beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from engine.comparison import side_by_side
from engine.plugins import as_options
from engine.text import md, one_line, plain
from engine.untrusted import as_text
from engine.version import version
from mmkd_tui.figures import moment, percent
from mmkd_tui.group_rows import GROUP_COLUMNS, group_row
from mmkd_tui.progress import clock
from mmkd_tui.report.charts import Chart, charts, together
from mmkd_tui.report.confusion import judged_charts
from mmkd_tui.report.differences import differences
from mmkd_tui.report.judged import Judged, Opinion, judged
from mmkd_tui.report.record import Record
from mmkd_tui.report.words import apart, learned, networks, verdict

Picture = Callable[[Chart], bytes]
HARDEST = (
    "Those on which the student's loss is largest: what the student and each teacher say with which probability, and how much "
    "the method trusted each teacher's logits and features on this very image."
)


@dataclass(frozen=True, slots=True)
class Section:
    """One run of a report, in text that is fit to be shown."""

    id: str
    name: str
    facts: list[tuple[str, str]]
    verdict: list[str]
    networks: list[tuple[str, str, str, str]]
    learned: list[str]
    charts: list[Chart]
    judged: Judged
    judged_charts: list[Chart]
    troubles: list[tuple[str, str]]
    preset: str
    reproduce: list[str]


def section(record: Record, number: int) -> Section:
    """Everything that is told of one run."""
    started, result = record.view.started, record.result
    assert started is not None
    shown = partial(one_line, limit=120)
    versions = ", ".join(f"{shown(name)} {shown(value)}" for name, value in result["versions"].items())
    best = "" if result["best_epoch"] is None else f"epoch {result['best_epoch'] + 1}"
    if best and result["best_accuracy"] is not None:
        best += f", {percent(result['best_accuracy'])} on the {shown(result['selected_on'])} split"
    facts = [
        ("run", shown(record.name)),
        ("state", str(record.state)),
        ("data set", f"{shown(started.dataset)}, {len(started.classes)} classes"),
        ("method", "" if started.only_teachers else shown(started.method)),
        ("seed", str(started.seed)),
        ("best epoch", best),
        ("began", moment(started.t)),
        ("took", clock(result["seconds"])),
        ("speed", f"{result['images_per_second']:,.0f} images/s while distilling" if result["images_per_second"] else ""),
        ("device", shown(record.device)),
        ("versions", versions),
        ("message", shown(result["message"]) if result["state"] != "done" else ""),
    ]
    return Section(
        id=f"run-{number}",
        name=shown(record.name),
        facts=[(name, value) for name, value in facts if value],
        verdict=verdict(record),
        networks=networks(record),
        learned=learned(record),
        charts=charts(record),
        judged=judged(record),
        judged_charts=judged_charts(record),
        troubles=[(message.level, one_line(message.text, 500)) for message in record.troubles],
        preset=plain(record.preset_text, keep="\n"),
        reproduce=_reproduce(record),
    )


def _reproduce(record: Record) -> list[str]:
    """Commands for a shell."""
    known = as_text(record.meta.get("version"))
    install = f"pip install 'mmkd-tui=={known}'" if re.fullmatch(r"\d+(\.\d+)*", known) else "pip install mmkd-tui"
    return [install, f"mmkd run preset.yaml{as_options(record.plugins)}    # the preset below, saved under this name"]


def html(records: Sequence[Record], script: str) -> str:
    """A page without any request to elsewhere."""
    from jinja2 import Environment

    sections = [section(record, number) for number, record in enumerate(records, start=1)]
    compared = together(records) if len(records) > 1 else None
    # Specifications lie in the page as JSON in scripts that are no programs: nothing in them can end such a script.
    specs = {f"{part.id}-{chart.key}": chart.spec for part in sections for chart in (*part.charts, *part.judged_charts)}
    if compared is not None:
        specs["together"] = compared.spec
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    return template.render(
        title=_title(records),
        sections=sections,
        compared=compared,
        students=_students(records),
        differences=differences(records) if len(records) > 1 else [],
        groups=groups(records),
        group_columns=GROUP_COLUMNS,
        about_hardest=HARDEST,
        specs=json.dumps(specs, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026"),
        script=script,
        version=version(),
        made=f"{datetime.now():%Y-%m-%d %H:%M}",
    )


def markdown(records: Sequence[Record], stem: str, picture: Picture | None) -> tuple[str, dict[str, bytes]]:
    """The text, and the pictures that it shows, by the names of their files; none without `picture`."""
    pictures: dict[str, bytes] = {}
    lines = [f"# {md(_title(records))}", ""]
    if len(records) > 1:
        lines += _table(("run", "method", "student", "test accuracy", "without teachers"), _students(records))
        if seeds := groups(records):
            lines += ["## Over seeds", "", *_table(GROUP_COLUMNS, seeds)]
        if rows := differences(records):
            names = apart([record.name for record in records], 60)
            lines += ["## Settings that differ", "", *_table(("setting", *names), [(key, *values) for key, values in rows])]
        compared = together(records)
        if compared is not None and picture is not None:
            lines += _picture(f"{stem}-together.png", compared, picture, pictures)
    for number, record in enumerate(records, start=1):
        part = section(record, number)
        lines += [f"## {md(part.name)}", "", *(md(line) for line in part.verdict), ""]
        lines += _table(("network", "test accuracy", "logit weight", "feature weight"), part.networks)
        lines += [*(f"* {md(line)}" for line in part.learned), ""] if part.learned else []
        for chart in part.charts if picture is not None else ():
            assert picture is not None
            lines += [f"### {chart.title}", "", chart.about, ""]
            lines += _picture(f"{stem}-{part.id}-{chart.key}.png", chart, picture, pictures)
        lines += _judged(part, stem, picture, pictures)
        lines += _table(("", ""), part.facts)
        if part.troubles:
            lines += ["### Warnings and errors", "", *(f"* {level}: {md(text)}" for level, text in part.troubles), ""]
        fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", part.preset)), 3)
        lines += ["### Again", "", f"{fence}sh", *part.reproduce, fence, "", f"{fence}yaml", part.preset.rstrip(), fence, ""]
    return "\n".join(lines).rstrip() + "\n", pictures


def _judged(part: Section, stem: str, picture: Picture | None, pictures: dict[str, bytes]) -> list[str]:
    """What came of the test images; pictures of the hardest are left to the page."""
    found = part.judged
    lines = ["### Student against teachers", ""] if not found.missing else []
    lines += [*(md(line) for line in (found.missing, *found.agreement) if line), ""]
    for chart in part.judged_charts if picture is not None else ():
        assert picture is not None
        lines += [f"### {chart.title}", "", chart.about, ""]
        lines += _picture(f"{stem}-{part.id}-{chart.key}.png", chart, picture, pictures)
    for table in (*found.mistakes, *((found.trust,) if found.trust is not None else ())):
        lines += [f"### {table.title}", "", *((table.about, "") if table.about else ())]
        lines += _table(table.columns, table.rows) if table.rows else []
    if found.hardest:
        columns = ("image", "it is", "the student says", "sure", *(o.teacher for o in found.hardest[0].opinions))
        lines += ["### Hardest test images, and who was trusted on them", "", HARDEST, ""]
        lines += _table(columns, [(str(c.number), c.label, c.says, c.sure, *map(_opinion, c.opinions)) for c in found.hardest])
    return lines


def _opinion(opinion: Opinion) -> str:
    weights = (("logits", opinion.logit_weight), ("features", opinion.feature_weight))
    told = "".join(f"; {kind} {weight:.2f}" for kind, weight in weights if weight is not None)
    return f"{opinion.says}, {opinion.sure}{told}"


def _picture(name: str, chart: Chart, picture: Picture, pictures: dict[str, bytes]) -> list[str]:
    pictures[name] = picture(chart)
    return [f"![{chart.title}]({PurePath(name).as_posix().replace(' ', '%20')})", ""]


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [titles, ["---"] * len(titles), *rows]
    return ["| " + " | ".join(md(cell) if cell != "---" else cell for cell in line) + " |" for line in lines] + [""]


def _title(records: Sequence[Record]) -> str:
    names = dict.fromkeys(one_line(as_text(record.result["name"]) or record.name, 60) for record in records)
    return ", ".join(list(names)[:4]) + (f": {len(records)} runs" if len(records) > 1 else "")


def groups(records: Sequence[Record]) -> list[list[str]]:
    """Rows of GROUP_COLUMNS; none where there is but one run of each kind, or a preset that cannot be read."""
    if len(records) < 2 or any(record.preset is None for record in records):
        return []
    found = side_by_side([record.path for record in records], ends=False)
    return [group_row(group) for group in found.groups] if any(group.summary.n > 1 for group in found.groups) else []


def _students(records: Sequence[Record]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for record in records:
        started, result = record.view.started, record.result
        assert started is not None
        accuracies = (percent(result["student_accuracy"]), percent(result["student_alone_accuracy"]))
        trained = one_line(started.method, 20), one_line(started.student, 40)
        if started.only_teachers:
            trained = "teachers alone", ""
        found.append((one_line(record.name, 80), *trained, *accuracies))
    return found


def as_json(records: Sequence[Record]) -> list[dict[str, Any]]:
    """What the report says, but for charts and pictures."""
    parts = [asdict(section(record, number)) for number, record in enumerate(records, start=1)]
    for part in parts:
        for card in part["judged"]["hardest"]:
            del card["picture"]
    left_out = ("id", "charts", "judged_charts")
    return [{name: value for name, value in part.items() if name not in left_out} for part in parts]
