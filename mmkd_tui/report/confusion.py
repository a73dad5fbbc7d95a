"""Charts of what the student and its teachers made of the test images, and of the weights there."""

from __future__ import annotations

from engine.analysis import BINS, Analysis, Counts
from mmkd_tui.report.charts import COLOURS, Chart, Spec, specification
from mmkd_tui.report.judged import class_names
from mmkd_tui.report.record import Record
from mmkd_tui.report.words import teachers_of

ROOM = 12  # classes of a map whose cells have room for numbers on a telephone


def judged_charts(record: Record) -> list[Chart]:
    """Those for which the run's analysis has figures."""
    found = record.analysis
    if found is None:
        return []
    charts = [_confusion(record, found), _trust(record, found)]
    return [chart for chart in charts if chart is not None]


def _confusion(record: Record, found: Analysis) -> Chart | None:
    confusion, names = found.confusion, class_names(record)
    if not confusion.classes:
        return None
    others: list[tuple[str, Counts]] = []
    if confusion.ensemble is not None and found.teachers > 1:
        others.append(("the teachers' average", confusion.ensemble))
    others += zip(teachers_of(record), confusion.teachers, strict=True)
    titles = [f"{number}: {names(number)}" if names(number) != str(number) else str(number) for number in confusion.classes]
    count = range(len(titles))
    rows: list[Spec] = [
        {"is": titles[a], "said": titles[b], "s": confusion.student[a][b], "t": [own[a][b] for _, own in others], "own": a == b}
        for a in count
        for b in count
    ]
    against: Spec = {"value": 0}
    if len(others) > 1:
        against |= {
            "bind": {
                "input": "select",
                "options": list(range(len(others))),
                "labels": [n for n, _ in others],
                "name": "student against ",
            }
        }
    params = [{"name": "against", **against}] if others else []
    other = "datum.t[against]" if others else "0"
    steps = [
        {"calculate": other, "as": "other"},
        {"calculate": "datum.s - datum.other", "as": "more"},
        # On the diagonal more is better, beside it worse.
        {"calculate": "datum.own ? -datum.more : datum.more" if others else "datum.own ? 0 : datum.s", "as": "worse"},
        {"calculate": "abs(datum.worse)", "as": "amount"},
        {"calculate": "datum.more == 0 ? '' : format(datum.more, '+d')" if others else "datum.s || ''", "as": "shown"},
    ]
    largest = (
        max(1, *(abs(row["s"] - value) for row in rows for value in row["t"]))
        if others
        else max(1, *(row["s"] for row in rows if not row["own"]), 1)
    )
    axis = {"labelOverlap": False, "labelLimit": 76, "grid": False}
    x = {"field": "said", "type": "nominal", "sort": None, "title": "predicted", "axis": axis | {"labelAngle": -45}}
    y = {"field": "is", "type": "nominal", "sort": None, "title": "true class", "axis": axis}
    hint = [
        {"field": "is", "title": "true class"},
        {"field": "said", "title": "predicted"},
        {"field": "s", "title": "student"},
        *([{"field": "other", "title": "teachers"}, {"field": "more", "title": "difference", "format": "+d"}] if others else []),
    ]
    better = {"test": "datum.worse < 0", "value": "#0072B2"}
    colour = {"condition": [{"test": "datum.worse > 0", "value": "#D55E00"}, better], "value": "#888888"}
    # Few images are to be seen beside many: the root of their number.
    faint = {"test": "datum.worse == 0", "value": 0.07}
    scale = {"type": "sqrt", "domain": [0, largest], "range": [0.15, 0.9]}
    opacity = {"condition": faint, "field": "amount", "type": "quantitative", "scale": scale, "legend": None}
    layers: list[Spec] = [
        {
            "mark": {"type": "rect", "stroke": "#8883", "strokeWidth": 0.5},
            "encoding": {"color": colour, "fillOpacity": opacity, "tooltip": hint},
        },
    ]
    if len(titles) <= ROOM:
        layers.append(
            {
                "mark": {"type": "text", "fontSize": 11, "color": "currentColor"},
                "encoding": {"text": {"field": "shown"}, "tooltip": hint},
            }
        )
    body = {
        "width": "container",
        "height": len(titles) * (26 if len(titles) <= ROOM else 20),
        "params": params,
        "transform": steps,
        "encoding": {"x": x, "y": y},
        "layer": layers,
    }
    some = (
        "" if len(titles) == found.classes else f" The {len(titles)} of {found.classes:,} classes between which they differ most."
    )
    if others:
        about = (
            "The student's test images in each cell less the teachers'. Orange: the student does worse there (fewer right on the "
            f"diagonal, more mistakes elsewhere); blue: better.{some}"
        )
        return Chart("confusion", "Confusions: student against teachers", about, specification(rows, body))
    return Chart("confusion", "Confusions of the student", f"Test images; mistakes in orange.{some}", specification(rows, body))


def _trust(record: Record, found: Analysis) -> Chart | None:
    trust = found.logit_weights
    if trust is None:
        return None
    names = teachers_of(record)
    rows = [
        {"weight": (number + 0.5) / BINS, "share": round(count / max(sum(line), 1), 4), "teacher": name}
        for name, line in zip(names, trust.histogram, strict=True)
        for number, count in enumerate(line)
    ]
    colour = {
        "field": "teacher",
        "type": "nominal",
        "scale": {"domain": names, "range": [COLOURS[n % len(COLOURS)] for n in range(len(names))]},
        "legend": {"orient": "bottom", "title": None, "columns": 2, "labelLimit": 180},
    }
    encoding = {
        "x": {"field": "weight", "type": "quantitative", "title": "logit weight of a test image", "scale": {"domain": [0, 1]}},
        "y": {"field": "share", "type": "quantitative", "title": "images", "axis": {"format": ".0%"}},
        "color": colour,
        "tooltip": [
            {"field": "teacher"},
            {"field": "weight", "title": "weight around", "format": ".3f"},
            {"field": "share", "title": "images", "format": ".1%"},
        ],
    }
    mark = {"type": "line", "interpolate": "step", "strokeWidth": 1.8, "point": {"opacity": 0, "size": 60}}
    about = "How differently the images are judged: a narrow peak is one weight for all, a wide one is a choice for each image."
    body = {"width": "container", "height": 220, "mark": mark, "encoding": encoding}
    return Chart("test-weights", "Logit weights over the test images", about, specification(rows, body))
