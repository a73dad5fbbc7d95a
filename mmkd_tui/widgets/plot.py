"""How a line chart looks: legend, axes, lines, lines to beat and alarms as lines of text, without a widget."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from mmkd_tui.widgets.canvas import Canvas
from mmkd_tui.widgets.glyphs import Glyphs
from mmkd_tui.widgets.lines import Line, Span, clip, cut, fit, shown, width_of
from mmkd_tui.widgets.scales import Scale, linear, logarithmic, number, round_end, time_scale
from mmkd_tui.widgets.series import ENDLESS, Column, Series, smoothed

MIN_WIDTH, MIN_HEIGHT = 20, 4
COLOURS = 6
_GUTTER = 5  # cells for the labels of the y axis, where they need no more
_MARKER_EVERY = 18  # cells between two markers of one line

AXIS, LABEL, VALUE, NOTE = "line-chart--axis", "line-chart--label", "line-chart--value", "line-chart--note"
REFERENCE, ALARM = "line-chart--reference", "line-chart--alarm"


def series_role(index: int) -> str:
    """The style of a series."""
    return f"line-chart--series-{index % COLOURS}"


@dataclass(frozen=True, slots=True)
class Reference:
    """A level to beat. The label is untrusted."""

    label: str
    value: float


@dataclass(frozen=True, slots=True)
class Picture:
    """All that a chart shows. `x_range`: the ends of the x axis; None there or for an end lets the data say."""

    traces: tuple[tuple[str, Series], ...]
    references: tuple[Reference, ...] = ()
    x_range: tuple[float | None, float | None] = (None, None)
    x_label: str = ""
    percent: bool = False
    log_y: bool = False
    smoothing: float = 0.0
    waiting: str = "waiting for the first numbers"


def paint(picture: Picture, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    """The chart in at most `height` lines of at most `width` cells; a summary in one line where there is no room for a chart."""
    return [clip(line, width) for line in _paint(picture, width, height, glyphs)]


def _paint(picture: Picture, width: int, height: int, glyphs: Glyphs) -> list[Line]:
    if width < 1 or height < 1:
        return []
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        return [_summary(picture, width, glyphs)]
    legend = _legend(picture, width, 1 if height < 10 else 2, glyphs)
    ruled = height >= 14
    rows = height - len(legend) - 1 - ruled
    x_low, x_high = _x_ends(picture)
    canvas = Canvas(width - _GUTTER - 1, rows, glyphs.ascii)
    columns = [_columns(picture, series, canvas.dots_x, x_low, x_high) for _, series in picture.traces]
    scale = _y_scale(picture, columns, rows)
    if scale is None:
        return _empty(picture, legend, width, height, glyphs)
    labels = _y_labels(scale, picture.percent)
    gutter = max(_GUTTER, *(len(text) for _, text in labels))
    if gutter > _GUTTER:
        canvas = Canvas(width - gutter - 1, rows, glyphs.ascii)
        columns = [_columns(picture, series, canvas.dots_x, x_low, x_high) for _, series in picture.traces]
    _draw_lines(canvas, columns, scale, glyphs)
    _draw_references(canvas, picture.references, scale, picture.percent, glyphs)
    axis = _y_axis(canvas, labels, scale, gutter, glyphs)
    body = [(*axis[row], *canvas.line(row)) for row in range(rows)]
    return [*legend, *body, *_x_axis(picture, time_scale(x_low, x_high, 2 + canvas.columns // 12), gutter, width, ruled, glyphs)]


def _columns(picture: Picture, series: Series, width: int, x_low: float, x_high: float) -> list[Column]:
    columns = series.sampled(width, x_low, x_high)
    if picture.smoothing <= 0:
        return columns
    means = smoothed([column.mean for column in columns], picture.smoothing)
    return [Column(mean, mean, mean, column.gap) for mean, column in zip(means, columns, strict=True)]


def _x_ends(picture: Picture) -> tuple[float, float]:
    firsts = [series.first_x for _, series in picture.traces if series.first_x is not None]
    lasts = [series.last_x for _, series in picture.traces if series.last_x is not None]
    low, high = picture.x_range
    start = low if low is not None else min(firsts, default=0.0)
    newest = max(lasts, default=start)
    # the end moves in leaps, so that a growing run does not redraw every cell at every step
    end = max(high, newest) if high is not None else start + round_end(newest - start)
    return (start, end) if end > start else (start, start + 1.0)


def _y_scale(picture: Picture, traces: Sequence[Sequence[Column]], rows: int) -> Scale | None:
    """None where there is nothing to scale by."""
    lowest = [column.low for columns in traces for column in columns if column.low == column.low]
    highest = [column.high for columns in traces for column in columns if column.high == column.high]
    if not highest:
        return None
    lowest += [reference.value for reference in picture.references if abs(reference.value) < ENDLESS]
    highest += [reference.value for reference in picture.references if abs(reference.value) < ENDLESS]
    ticks = min(max(rows // 3 + 1, 4), 9)
    if picture.log_y:
        above = [value for value in (*lowest, *highest) if value > 0]
        return logarithmic(min(above), max(above), ticks) if above else None
    low, high = min(lowest), max(highest)
    scale = linear(low, high, ticks)
    if picture.percent and high <= 1.0 < scale.high:
        return Scale(scale.low, 1.0, tuple(tick for tick in scale.ticks if tick <= 1.0 + 1e-9))
    return scale


def _y_labels(scale: Scale, percent: bool) -> list[tuple[float, str]]:
    """(value, text) of the ticks: the ends first, for they are what a low chart has room for."""
    step = None if scale.log or len(scale.ticks) < 2 else scale.ticks[1] - scale.ticks[0]
    ticks = [scale.ticks[0], scale.ticks[-1], *scale.ticks[1:-1]]
    return [(tick, f"{tick:g}" if scale.log and not percent else number(tick, step, percent)) for tick in ticks]


def _y_axis(canvas: Canvas, labels: Sequence[tuple[float, str]], scale: Scale, gutter: int, glyphs: Glyphs) -> list[Line]:
    at: dict[int, str] = {}
    for value, text in labels:
        row = canvas.row_of(canvas.dot_at(scale.fraction(value)))
        at.setdefault(row, text)
    lines: list[Line] = []
    for row in range(canvas.rows):
        text = at.get(row, "")
        lines.append((Span(" " * (gutter - len(text))), Span(text, LABEL), Span(glyphs.tick if text else glyphs.axis, AXIS)))
    return lines


def _x_axis(picture: Picture, scale: Scale, gutter: int, width: int, ruled: bool, glyphs: Glyphs) -> list[Line]:
    columns = width - gutter - 1
    rule = ["-" if glyphs.ascii else "─"] * columns
    text = [" "] * columns
    step = scale.ticks[1] - scale.ticks[0] if len(scale.ticks) > 1 else None
    free_from = 0
    for tick in (*scale.ticks, scale.high):
        column = min(int(scale.fraction(tick) * columns), columns - 1)
        rule[column] = "+" if glyphs.ascii else "┬"
        label = number(tick, step)
        start = min(max(column - len(label) // 2, 0), columns - len(label))
        if start >= free_from:
            text[start : start + len(label)] = label
            free_from = start + len(label) + 1
    name = shown(picture.x_label, glyphs.ascii)
    corner = name if cell_len(name) <= gutter else ""
    below: Line = (Span(fit(corner, gutter + 1), NOTE), Span("".join(text), LABEL))
    if not corner and name and columns - free_from > cell_len(name):  # no room under the y axis, but at the end
        below = (Span(" " * (gutter + 1)), Span("".join(text[: columns - cell_len(name)]), LABEL), Span(name, NOTE))
    if not ruled:
        return [below]
    return [(Span(" " * gutter), Span(("+" if glyphs.ascii else "└") + "".join(rule), AXIS)), below]


def _draw_lines(canvas: Canvas, traces: Sequence[Sequence[Column]], scale: Scale, glyphs: Glyphs) -> None:
    markers: list[tuple[int, int, int]] = []  # row, column, series
    tips: list[tuple[int, int, int]] = []
    for index in range(len(traces) - 1, -1, -1):  # the first series is drawn last, on top
        columns = traces[index]
        spans = [_dots(canvas, column, scale) for column in columns]
        canvas.trace(spans, columns, series_role(index))
        due, tip = index * _MARKER_EVERY // max(len(traces), 1), None
        for x, span in enumerate(spans):
            if span is None:
                continue
            dot = canvas.dot_at(scale.fraction(columns[x].mean))
            tip = canvas.row_of(dot), x // canvas.dots_per_column, index
            if tip[1] >= due:
                markers.append(tip)
                due += (1 + (tip[1] - due) // _MARKER_EVERY) * _MARKER_EVERY
        if tip is not None:
            tips.append(tip)
    ends = {index: column for _, column, index in tips}
    apart = [marker for marker in markers if ends[marker[2]] - marker[1] > _MARKER_EVERY // 4]
    for row, column, index in (*apart, *tips):
        canvas.put(row, column, glyphs.markers[index % len(glyphs.markers)], series_role(index))
    for columns in traces:
        for x, found in enumerate(columns):
            if found.gap:
                canvas.put(canvas.rows - 1, x // canvas.dots_per_column, glyphs.alarm, ALARM)


def _dots(canvas: Canvas, column: Column, scale: Scale) -> tuple[int, int] | None:
    if column.high != column.high or (scale.log and column.high <= 0):
        return None
    return canvas.dot_at(scale.fraction(column.high)), canvas.dot_at(scale.fraction(column.low))


def _draw_references(canvas: Canvas, references: Sequence[Reference], scale: Scale, percent: bool, glyphs: Glyphs) -> None:
    rows: dict[int, list[Reference]] = {}
    for reference in sorted(references, key=lambda found: -found.value):
        if abs(reference.value) < ENDLESS and not (scale.log and reference.value <= 0):
            rows.setdefault(canvas.row_of(canvas.dot_at(scale.fraction(reference.value))), []).append(reference)
    for row in rows:
        for column in range(canvas.columns):
            if canvas.free(row, column):
                canvas.put(row, column, glyphs.reference, REFERENCE)
    for row, found in rows.items():
        # On one line where there is room for it, else each near its own; what would hide a curve wherever it stood is left out.
        if not _label(canvas, row, found, rows.keys(), percent, glyphs):
            for reference in found:
                _label(canvas, row, [reference], rows.keys(), percent, glyphs)


def _label(canvas: Canvas, row: int, found: Sequence[Reference], levels: Collection[int], percent: bool, glyphs: Glyphs) -> bool:
    """Writes names and values of what lies on one row; whether there is room for that."""
    for names in (24, 12, 6):
        text = _reference_text(found, names, canvas.columns - 4, percent, glyphs)
        place = _place(canvas, row, cell_len(text), levels, glyphs)
        if place is not None:
            canvas.put(*place, text, REFERENCE)
            return True
    return False


def _reference_text(found: Sequence[Reference], names: int, width: int, percent: bool, glyphs: Glyphs) -> str:
    """The levels of one row in at most `width` cells and a blank at either end."""
    values = [number(reference.value, None, percent) for reference in found]
    room = (width - 3 * (len(found) - 1) - sum(len(value) + 1 for value in values)) // len(found)
    labels = [cut(shown(reference.label, glyphs.ascii), min(room, names), glyphs.more) for reference in found]
    named = [f"{label} {value}".lstrip() for label, value in zip(labels, values, strict=True)]
    return f" {cut(f' {glyphs.between} '.join(named), width, glyphs.more)} "


def _place(canvas: Canvas, row: int, size: int, levels: Collection[int], glyphs: Glyphs) -> tuple[int, int] | None:
    """Where a level's text hides nothing: on its line, or near it on a row that is no other level's; None where nowhere.

    On its line it is first tried at the left: a curve that has risen to a level leaves that end free for good. Elsewhere as far
    right as can be, for curves come from the left.
    """
    for other in sorted(range(canvas.rows), key=lambda other: (abs(other - row), -other)):
        if other != row and (other in levels or abs(other - row) > canvas.rows // 2):
            continue
        cells = zip(canvas.text[other], canvas.roles[other], strict=True)
        taken = {column for column, cell in enumerate(cells) if cell not in ((" ", ""), (glyphs.reference, REFERENCE))}
        right_to_left = range(canvas.columns - size - 1, 0, -1)
        for column in (1, *right_to_left) if other == row else right_to_left:
            if taken.isdisjoint(range(column, column + size)):
                return other, column
    return None


def _items(picture: Picture, glyphs: Glyphs, names: int, values: bool) -> list[Line]:
    items = []
    for index, (name, series) in enumerate(picture.traces):
        marker = glyphs.markers[index % len(glyphs.markers)]
        spans = [Span(marker + " ", series_role(index)), Span(cut(shown(name, glyphs.ascii), names, glyphs.more), LABEL)]
        if series.last is None and series.gaps:
            spans += [Span(" ", LABEL), Span(f"{glyphs.alarm} NaN", ALARM)]
        elif series.last is not None:
            spans += [Span(" ", LABEL), Span(number(series.last, None, picture.percent), VALUE)] * values
            spans += [Span(" ", LABEL), Span(f"{glyphs.alarm}{series.gaps}", ALARM)] * (series.gaps > 0)
        items.append(tuple(spans))
    return items


def _flow(items: Sequence[Line], width: int) -> list[Line]:
    """Items in as few lines as they need, two spaces between two items."""
    lines: list[Line] = []
    for item in items:
        if lines and width_of(lines[-1]) + 2 + width_of(item) <= width:
            before = lines[-1][-1].role
            # blanks in the style before them: each change of style costs some 40 bytes, four times a second
            lines[-1] = (*lines[-1], Span("  ", "" if before == ALARM else before), *item)
        else:
            lines.append(item)
    return lines


def _legend(picture: Picture, width: int, most: int, glyphs: Glyphs) -> list[Line]:
    lines: list[Line] = []
    for names, values in ((24, True), (12, True), (12, False), (6, False), (3, False), (0, False)):
        lines = _flow(_items(picture, glyphs, names, values), width)
        if len(lines) <= most:
            break
    lines = lines[:most] or [()]
    notes = ["log y"] * picture.log_y + [f"smooth {picture.smoothing:g}"] * (picture.smoothing > 0)
    note = f" {glyphs.between} ".join(notes)
    room = width - width_of(lines[-1])
    if note and room <= len(note) + 1 and len(lines) < most:
        lines, room = [*lines, ()], width
    if note and room > len(note) + 1:
        lines[-1] = (*lines[-1], Span(" " * (room - len(note))), Span(note, NOTE))
    return lines


def _summary(picture: Picture, width: int, glyphs: Glyphs) -> Line:
    items = _items(picture, glyphs, 12, True)
    if not any(series.appended for _, series in picture.traces):
        return (Span(fit(shown(picture.waiting, glyphs.ascii), width), NOTE),)
    return tuple(span for item in items for span in (*item, Span(" ")))


def _empty(picture: Picture, legend: list[Line], width: int, height: int, glyphs: Glyphs) -> list[Line]:
    gaps = any(series.gaps for _, series in picture.traces)
    numbers = any(series.highest() is not None for _, series in picture.traces)
    text = "nothing above 0 for a log axis" if numbers and picture.log_y else picture.waiting
    role = NOTE
    if gaps and not numbers:
        text, role = f"{glyphs.alarm} not a number so far {glyphs.alarm}", ALARM
    text = cut(shown(text, glyphs.ascii), width, glyphs.more)
    left = (width - cell_len(text)) // 2
    blank: list[Line] = [()] * (height - len(legend))
    blank[(len(blank) - 1) // 2] = (Span(" " * left), Span(text, role))
    return [*legend, *blank]
