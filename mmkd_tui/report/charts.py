"""A run's charts as Vega-Lite specifications: plain data, drawn by Vega wherever they are looked at."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.text import one_line
from mmkd_tui.curves import PhaseCurves
from mmkd_tui.report.record import Record
from mmkd_tui.report.words import apart, teachers_of
from mmkd_tui.widgets.series import Series

POINTS = 300  # of a curve
MANY = 24  # classes from which cells have no room for numbers
WIDE_RANGE = 50.0  # highest over lowest value from which an axis is logarithmic
# Okabe and Ito's colours, told apart by everybody, in light and dark.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#9A6A00", "#7F7F7F")
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"

Spec = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chart:
    """A specification with its heading and what to know about it."""

    key: str
    title: str
    about: str
    spec: Spec


def charts(record: Record) -> list[Chart]:
    """Those for which the run has figures."""
    found: list[Chart | None] = []
    if record.view.started is not None and record.view.started.only_teachers:
        for number, of_one in enumerate(record.curves):
            label = one_line(of_one.label, 40)
            both = _accuracy(record, of_one), _loss(of_one)
            found += [replace(one, key=f"{one.key}-{number}", title=f"{one.title} of {label}") for one in both]
        return [chart for chart in (*found, _teachers(record)) if chart is not None]
    curves = record.distillation or (record.curves[-1] if record.curves else None)
    if curves is not None:
        found += [_accuracy(record, curves), _loss(curves)]
        found += [_weights(record, curves, kind) for kind in ("logit", "feature")]
        found += [_by_class(record), _meta(curves)]
    found.append(_teachers(record))
    return [chart for chart in found if chart is not None]


def together(records: Sequence[Record]) -> Chart | None:
    """The students' accuracy of several runs."""
    rows = []
    for name, record in zip(apart([record.name for record in records], 60), records, strict=True):
        curves = record.distillation
        if curves is not None:
            rows += _rows(curves.accuracy.get("validation"), name, curves.epochs)
    if not rows:
        return None
    return Chart("together", "Accuracy on the split that chooses the epoch", "", _lines(rows, "accuracy", percent=True))


def _accuracy(record: Record, curves: PhaseCurves) -> Chart:
    rows: list[Spec] = []
    for name in ("train", "validation", "best", "hard buffer"):
        rows += _rows(curves.accuracy.get(name), name, curves.epochs)
    teachers = record.result["teachers"]
    names = apart([t["name"] for t in teachers], 40)
    marks = [(f"teacher {name}", t["accuracy"]) for name, t in zip(names, teachers, strict=True)]
    marks += [("student without teachers", record.result["student_alone_accuracy"])]
    rules = [{"value": value, "what": name} for name, value in marks if value is not None]
    alone = record.view.started is not None and record.view.started.only_teachers
    about = f"Dashed: each teacher{'' if alone else ' and the student without teachers'}, on the test split."
    return Chart("accuracy", "Accuracy", about if rules else "", _lines(rows, "accuracy", percent=True, rules=rules))


def _loss(curves: PhaseCurves) -> Chart:
    rows: list[Spec] = []
    for name, series in curves.loss.items():
        rows += _rows(series, name, curves.epochs)
    return Chart("loss", "Loss", "Total, and its parts without their factors.", _lines(rows, "loss"))


def _weights(record: Record, curves: PhaseCurves, kind: str) -> Chart | None:
    rows: list[Spec] = []
    lines: Sequence[Series] = curves.logit_weights if kind == "logit" else curves.feature_weights
    for name, series in zip(teachers_of(record), lines, strict=False):
        rows += _rows(series, name, curves.epochs)
    if not rows:
        return None
    about = "How much each teacher counts, on average over the samples."
    return Chart(f"{kind}-weights", f"Teachers' {kind} weights", about, _lines(rows, "weight", low=0.0))


def _by_class(record: Record) -> Chart | None:
    phase = record.by_class
    if phase is None or phase.by_class is None or record.view.started is None:
        return None
    classes = [one_line(name, 40) for name in record.view.started.classes]
    teachers = teachers_of(record)
    tables = {"logit": phase.by_class.logit_weights_by_class, "feature": phase.by_class.feature_weights_by_class}
    rows = [
        {"class": f"{number}: {name}", "teacher": teacher, "weight": round(weight, 4), "kind": kind}
        for kind, table in tables.items()
        for number, (name, weights) in enumerate(zip(classes, table, strict=False))
        for teacher, weight in zip(teachers, weights, strict=False)
        if math.isfinite(weight)
    ]
    if not rows:
        return None
    many = len(classes) > MANY
    x = {"field": "class", "type": "nominal", "sort": None, "title": "class", "axis": {"labelOverlap": True, "labelLimit": 90}}
    y = {"field": "teacher", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 110}}
    colour = {"field": "weight", "type": "quantitative", "scale": {"scheme": "viridis", "domain": [0, 1]}}
    cells: list[Spec] = [{"mark": {"type": "rect", "tooltip": True}, "encoding": {"color": colour}}]
    if not many:
        light = {"condition": {"test": "datum.weight > 0.6", "value": "black"}, "value": "white"}
        text = {"field": "weight", "type": "quantitative", "format": ".2f"}
        cells.append({"mark": {"type": "text", "fontSize": 10, "tooltip": True}, "encoding": {"text": text, "color": light}})
    kinds = [kind for kind in tables if any(row["kind"] == kind for row in rows)]
    parts = [
        {
            "title": f"{kind} weights",
            "width": "container" if len(kinds) == 1 else 720,
            "height": {"step": 24},
            "transform": [{"filter": {"field": "kind", "equal": kind}}],
            "encoding": {"x": x, "y": y},
            "layer": cells,
        }
        for kind in kinds
    ]
    about = f"Means over a class's training samples in epoch {phase.by_class.epoch + 1}."
    whole = parts[0] if len(parts) == 1 else {"vconcat": parts}
    return Chart("by-class", "Which teacher is trusted on which class", about, specification(rows, whole))


def _meta(curves: PhaseCurves) -> Chart | None:
    rows: list[Spec] = []
    for name, series in curves.norms.items():
        rows += _rows(series, f"{name} net", curves.epochs)
    if not rows:
        return None
    about = "Norm of the hyper-gradient of each weight network: how strongly the meta steps pull at the weights."
    return Chart("meta", "Meta-learning", about, _lines(rows, "norm"))


def _teachers(record: Record) -> Chart | None:
    rows: list[Spec] = []
    phases = [phase for phase in record.curves if phase.name in ("teacher", "alone")]
    for name, phase in zip(apart([phase.label for phase in phases], 60), phases, strict=True):
        rows += _rows(phase.accuracy.get("validation"), name, phase.epochs)
    if not rows:
        return None
    about = "Trained in this run, on the labels alone; accuracy on the split that chooses the epoch."
    return Chart("teachers", "Teachers and the student without them", about, _lines(rows, "accuracy", percent=True))


def _rows(series: Series | None, name: str, epochs: int) -> list[Spec]:
    """A curve's points: x in epochs."""
    if series is None or not len(series):
        return []
    end = max(float(epochs), series.last_x or 0.0)
    start = min(series.first_x or 0.0, end)
    columns = series.sampled(POINTS, start, end)
    width = (end - start) / POINTS
    rows: list[Spec] = []
    for number, column in enumerate(columns):
        if math.isfinite(column.mean):
            rows.append({"epoch": round(start + (number + 0.5) * width, 3), "value": _short(column.mean), "what": name})
    return rows


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _lines(
    rows: Sequence[Spec], title: str, *, percent: bool = False, low: float | None = None, rules: Sequence[Spec] = ()
) -> Spec:
    names = list(dict.fromkeys(row["what"] for row in [*rows, *rules]))
    values = [row["value"] for row in rows]
    wide = not percent and low is None and bool(values) and min(values) > 0 and max(values) / min(values) > WIDE_RANGE
    scale: Spec = {"type": "log"} if wide else {"zero": False}
    if low is not None:
        scale = {"domainMin": low}
    style = ".1%" if percent else "~g"
    y = {"field": "value", "type": "quantitative", "title": title, "scale": scale, "axis": {"format": style}}
    told = [{"field": "what", "title": " "}, {"field": "value", "title": title, "format": ".2%" if percent else ".4~g"}]
    colours = [COLOURS[number % len(COLOURS)] for number in range(len(names))]
    colour = {
        "field": "what",
        "type": "nominal",
        "scale": {"domain": names, "range": colours},
        "legend": {"orient": "bottom", "title": None, "columns": 2, "labelLimit": 180},
    }
    x = {"field": "epoch", "type": "quantitative", "title": "epoch", "scale": {"nice": False}}
    shown = {"name": "shown", "select": {"type": "point", "fields": ["what"]}, "bind": "legend"}
    opacity = {"condition": {"param": "shown", "value": 1}, "value": 0.12}
    hint = [told[0], {"field": "epoch", "title": "epoch", "format": ".2f"}, told[1]]
    data = {"values": list(rows)}
    line = {"type": "line", "strokeWidth": 1.6}
    layers: list[Spec] = [
        {"data": data, "params": [shown], "mark": line, "encoding": {"x": x, "y": y, "color": colour, "opacity": opacity}},
        # What the pointer finds; a curve of one point would have no line.
        {
            "data": data,
            "mark": {"type": "point", "filled": True, "size": 45, "opacity": 1 if len(rows) <= len(names) else 0},
            "encoding": {"x": x, "y": y, "color": colour, "tooltip": hint},
        },
    ]
    if rules:
        encoding = {"y": y, "color": colour, "opacity": opacity, "tooltip": told}
        layers.append(
            {
                "data": {"values": list(rules)},
                "mark": {"type": "rule", "strokeDash": [5, 4], "strokeWidth": 1.4},
                "encoding": encoding,
            }
        )
    return specification(None, {"width": "container", "height": 260, "layer": layers})


def specification(rows: Iterable[Mapping[str, Any]] | None, body: Spec) -> Spec:
    data = {} if rows is None else {"data": {"values": list(rows)}}
    # "currentColor" lets the page's style sheet say what text looks like, in light and dark.
    plain_axis = {"labelColor": "currentColor", "titleColor": "currentColor", "gridColor": "#8884", "domainColor": "#8888"}
    config = {
        "background": "transparent",
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": plain_axis | {"tickColor": "#8888", "labelFontSize": 11, "titleFontWeight": "normal"},
        "legend": {"labelColor": "currentColor", "titleColor": "currentColor", "symbolStrokeWidth": 3},
        "title": {"color": "currentColor", "anchor": "start", "fontSize": 12, "fontWeight": "normal"},
    }
    return {"$schema": SCHEMA, "autosize": {"type": "fit-x", "contains": "padding"}, **data, **body, "config": config}
