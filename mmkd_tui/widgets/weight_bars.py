"""`WeightBars`: how far each teacher is trusted now, as bars with their spread over the samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import cell_len
from textual.reactive import reactive

from mmkd_tui.widgets.glyphs import Glyphs
from mmkd_tui.widgets.lines import Line, LinesWidget, Span, clip, cut, fit, joined, shown

SIDE_BY_SIDE = 66  # cells from which the two kinds of weights stand side by side
_TOPS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)

LABEL, NUMBER, NOTE, EQUAL = "weight-bars--label", "weight-bars--number", "weight-bars--note", "weight-bars--equal"


@dataclass(frozen=True, slots=True)
class Weights:
    """One kind of weights: a mean and a spread (standard deviation) for each of K teachers, in 0..1. No means: not used."""

    title: str
    means: tuple[float, ...] = ()
    spreads: tuple[float, ...] = ()


def top_of(kinds: Sequence[Weights], before: float = 1.0) -> float:
    """What a whole bar stands for: 1, or less where there are so many teachers that all bars would be stubs.

    `before` is the answer so far; it holds until the bars would fill less than half, so that noise does not make them jump.
    """
    ends = [m + (kind.spreads[i] if i < len(kind.spreads) else 0) for kind in kinds for i, m in enumerate(kind.means)]
    most = max((end for end in ends if math.isfinite(end)), default=1.0)
    count = max((len(kind.means) for kind in kinds), default=1)
    fitting = [top for top in _TOPS if top >= most and top >= min(1.5 / max(count, 1), 1.0)]
    least = fitting[-1] if fitting else 1.0
    return before if least <= before and most > 0.35 * before else least


def paint_bars(
    labels: Sequence[str], kinds: Sequence[Weights], width: int, height: int, glyphs: Glyphs, top: float = 1.0
) -> list[Line]:
    """Bars for each kind of weights, side by side where there is room and else one below the other."""
    return [clip(line, width) for line in _paint(labels, kinds, width, height, glyphs, top)]


def _paint(labels: Sequence[str], kinds: Sequence[Weights], width: int, height: int, glyphs: Glyphs, top: float) -> list[Line]:
    used = [kind for kind in kinds if kind.means]
    if not labels or not used:
        text = "waiting for the first weights"
        return [(Span(cut(text, width, glyphs.more), NOTE),)]
    if width >= SIDE_BY_SIDE:
        names = _names_width(labels, glyphs, min(24, width // 5))
        each = (width - names - 2 * (len(used) - 1)) // len(used)
        blocks = [
            _block(labels, kind, names if i == 0 else 0, each + (names if i == 0 else 0), height, glyphs, top)
            for i, kind in enumerate(used)
        ]
        rows = max(map(len, blocks))
        padded = [block + [(Span(" " * (each + names * (i == 0))),)] * (rows - len(block)) for i, block in enumerate(blocks)]
        return [_side_by_side(lines) for lines in zip(*padded, strict=True)]
    names = _names_width(labels, glyphs, min(24, width // 3))
    lines: list[Line] = []
    for index, kind in enumerate(used):
        lines += _block(labels, kind, names, width, (height - len(lines)) // (len(used) - index), glyphs, top)
    return lines


def _side_by_side(lines: Sequence[Line]) -> Line:
    spans = list(lines[0])
    for line in lines[1:]:
        spans += [Span("  "), *line]
    return tuple(spans)


def _names_width(labels: Sequence[str], glyphs: Glyphs, most: int) -> int:
    return min(max(cell_len(shown(label, glyphs.ascii)) for label in labels), most) + 1


def _block(labels: Sequence[str], kind: Weights, names: int, width: int, height: int, glyphs: Glyphs, top: float) -> list[Line]:
    """A heading with the place of 1/K, and a row a teacher; the last row says how many are left out."""
    count = min(len(labels), len(kind.means))
    spreads = kind.spreads if len(kind.spreads) == len(kind.means) else (math.nan,) * len(kind.means)
    with_spread = width >= 40 and any(math.isfinite(spread) for spread in spreads)
    numbers = 6 + (7 if with_spread else 0)
    bar = width - names - numbers
    if bar < 4:
        numbers, bar = 6, width - names - 6
    if bar < 1 or height < 1:
        return [()] * max(height, 0)
    equal = min(int(bar / (len(kind.means) * top)), bar - 1)
    lines = [_heading(shown(kind.title, glyphs.ascii), len(kind.means), names, width, equal, top, glyphs)] if height >= 2 else []
    rows = count if len(lines) + count <= height else height - len(lines) - 1
    for i in range(max(rows, 0)):
        label = fit(cut(shown(labels[i], glyphs.ascii), names - 1, glyphs.more), names) if names else ""
        cells = _bar(kind.means[i], spreads[i], bar, equal, top, glyphs, i)
        lines.append((Span(label, LABEL), *cells, *_number(kind.means[i], spreads[i], numbers, glyphs)))
    if rows < count:
        lines.append((Span(fit(f"+{count - max(rows, 0)} more", width), NOTE),))
    return lines


def _heading(title: str, count: int, names: int, width: int, equal: int, top: float, glyphs: Glyphs) -> Line:
    """The title, a mark with its meaning over the 1/K line, and what a whole bar is if less than 1: each where there is room."""
    mark = f"{glyphs.equal_head}1/{count}"
    at = names + equal
    if at + len(mark) > width:  # the mark stays over its line, its meaning goes to the left of it
        mark = mark[1:] + mark[0]
        at -= len(mark) - 1
    title = cut(title, width, glyphs.more)
    if cell_len(title) >= at:
        return (Span(title, NOTE), Span(" " * (width - cell_len(title))))
    rest = width - at - len(mark)
    whole = f"full bar {top:g}" if top < 1.0 else ""
    if len(whole) >= rest:
        whole = ""
    return (Span(fit(title, at), NOTE), Span(mark, EQUAL), Span(" " * (rest - len(whole))), Span(whole, NOTE))


def _bar(mean: float, spread: float, width: int, equal: int, top: float, glyphs: Glyphs, index: int) -> Line:
    role = f"weight-bars--bar-{index % 6}"
    cells = [Span(glyphs.equal, EQUAL) if x == equal else Span(" ") for x in range(width + 1)]  # one blank before the number
    if not math.isfinite(mean):
        return (Span(glyphs.alarm, "weight-bars--alarm"), *joined(cells[1:]))
    steps = len(glyphs.fills) - 1
    filled = round(min(max(mean / top, 0.0), 1.0) * width * steps)
    whole, part = divmod(filled, steps)
    reach = min(max(spread, 0.0) / top, 1.0) * width if math.isfinite(spread) else 0.0
    low = max(round(whole - reach), 0)
    for x in range(whole):
        shaded = reach >= 0.5 and x >= low
        cells[x] = Span(glyphs.shade if shaded else glyphs.fills[-1], role)
    if part:
        cells[whole] = Span(glyphs.fills[part], role)
    if equal < whole:
        cells[equal] = Span(glyphs.equal_on_bar, f"weight-bars--equal-on-bar-{index % 6}")
    first = whole + (part > 0)
    last = min(round(filled / steps + reach), width) - 1
    for x in range(first, last + 1):
        cells[x] = Span(glyphs.whisker_end if x == last else glyphs.whisker, role)
    return joined(cells)


def _number(mean: float, spread: float, width: int, glyphs: Glyphs) -> Line:
    if not math.isfinite(mean):
        return (Span(fit("NaN", width - 1), "weight-bars--alarm"),)
    if width <= 6 or not math.isfinite(spread):
        return (Span(fit(f"{mean:5.3f}", width - 1), NUMBER),)
    extra = f"{glyphs.plus_minus}{spread:.3f}".replace("0.", ".", 1)
    return Span(f"{mean:5.3f} ", NUMBER), Span(fit(extra, width - 7), NOTE)


class WeightBars(LinesWidget):
    """A row a teacher: name, bar of the mean weight with a whisker of its spread, number; equal weight (1/K) is marked."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "weight-bars--label",
        "weight-bars--number",
        "weight-bars--note",
        "weight-bars--equal",
        "weight-bars--alarm",
        *(f"weight-bars--bar-{index}" for index in range(6)),
        *(f"weight-bars--equal-on-bar-{index}" for index in range(6)),
    }

    DEFAULT_CSS = """
    WeightBars {
        & > .weight-bars--number { text-style: bold; }
        & > .weight-bars--note { color: $text-muted; }
        & > .weight-bars--equal { color: $text-muted; }
        & > .weight-bars--alarm { color: $text-error; text-style: bold reverse; }
        & > .weight-bars--bar-0, & > .weight-bars--equal-on-bar-0 { color: $text-primary; }
        & > .weight-bars--bar-1, & > .weight-bars--equal-on-bar-1 { color: $text-warning; }
        & > .weight-bars--bar-2, & > .weight-bars--equal-on-bar-2 { color: $text-success; }
        & > .weight-bars--bar-3, & > .weight-bars--equal-on-bar-3 { color: $text-error; }
        & > .weight-bars--bar-4, & > .weight-bars--equal-on-bar-4 { color: $foreground; }
        & > .weight-bars--bar-5, & > .weight-bars--equal-on-bar-5 { color: $text-secondary; }
        & > .weight-bars--equal-on-bar-0, & > .weight-bars--equal-on-bar-1, & > .weight-bars--equal-on-bar-2,
        & > .weight-bars--equal-on-bar-3, & > .weight-bars--equal-on-bar-4, & > .weight-bars--equal-on-bar-5 {
            text-style: reverse;
        }
    }
    """

    labels: reactive[tuple[str, ...]] = reactive((), init=False)

    def __init__(
        self, labels: tuple[str, ...] = (), *, ascii: bool = False, id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(ascii=ascii, id=id, classes=classes)
        self.set_reactive(WeightBars.labels, labels)
        self._kinds: tuple[Weights, ...] = ()
        self._top = 1.0

    def show(self, *kinds: Weights) -> None:
        """The newest weights: one `Weights` a kind, in the order of the labels."""
        self._kinds = kinds
        self._top = top_of(kinds, self._top)
        self.changed_data()

    def watch_labels(self) -> None:
        self._top = 1.0
        self.changed_data()

    def draw(self, width: int, height: int) -> list[Line]:
        return paint_bars(self.labels, self._kinds, width, height, self.glyphs, self._top)
