"""From samples to figures: medians, quartiles, rates and ratios, as one flat JSON object a case and as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from statistics import median, quantiles
from typing import Any

from engine.bench.cases import SUBJECTS, Case
from engine.bench.measure import Measured, Series

Report = dict[str, Any]

RATIOS = (
    *(("naive", ours) for ours in ("exact", "auto", "cached")),
    *((ours, "aver") for ours in ("exact", "auto", "cached")),
    *((ours, "limit") for ours in ("exact", "auto")),
    *((ours, "student") for ours in ("aver", "exact", "auto", "cached")),
    *(("meta_naive", f"meta_{ours}") for ours in ("exact", "auto", "cached")),
)


def report(case: Case, subjects: Sequence[Measured], rounds: int, machine: dict[str, Any], *, interrupted: bool) -> Report:
    """What is known of a case so far. `X_ms` is subject X's mean iteration: its training step and its share of a meta step."""
    found: Report = {
        "case": case.name,
        "varied": case.varied or None,
        "teachers": list(case.teachers),
        "student": case.student,
        "batch": case.batch,
        "classes": case.classes,
        "image": [3, case.size, case.size],
        "every": case.every,
        "rounds": rounds,
        "interrupted": interrupted,
    }
    details: dict[str, Any] = {}
    for measured in subjects:
        if not all(series.samples for _, series in measured.series()):
            continue
        name, meta = measured.subject.name, measured.meta
        step = median(measured.train.samples)
        share = median(meta.samples) / case.every if meta else 0.0
        found[f"{name}_ms"] = step + share
        found[f"train_{name}_ms"] = step
        found[f"meta_{name}_ms"] = median(meta.samples) if meta else None
        details[name] = {
            "images_per_second": case.batch / (step + share) * 1000,
            "train": _detail(measured.train),
            "meta": _detail(meta) if meta else None,
        }
    found["subjects"] = details
    found["ratios"] = dict(_ratios(found))
    found["machine"] = machine
    return found


def _detail(series: Series) -> dict[str, Any]:
    several = len(series.samples) > 1
    low, _, high = quantiles(series.samples, n=4, method="inclusive") if several else series.samples * 3
    return {
        "quartiles_ms": [low, high],
        "samples_ms": series.samples,
        "steps_a_sample": series.repeats,
        "peak_mb": None if series.peak is None else series.peak / 1e6,
    }


def _ratios(found: Report) -> Iterator[tuple[str, float]]:
    for one, other in RATIOS:
        if f"{one}_ms" in found and f"{other}_ms" in found:
            yield f"{one}/{other}", found[f"{one}_ms"] / found[f"{other}_ms"]


def as_text(found: Report) -> list[str]:
    """The lines of a table for people, 80 columns wide at most."""
    machine = found["machine"]
    rows = [["ms", "iteration", "training", "spread", "meta step", "spread", "images/s", "peak MB"]]
    for name, detail in found["subjects"].items():
        steps = [(found[f"{kind}_{name}_ms"], detail[kind]) for kind in ("train", "meta")]
        peaks = [step["peak_mb"] for _, step in steps if step and step["peak_mb"] is not None]
        rows.append(
            [
                name,
                f"{found[f'{name}_ms']:,.1f}",
                *(cell for ms, step in steps for cell in ((f"{ms:,.1f}", _spread(ms, step)) if step else ("", ""))),
                f"{detail['images_per_second']:,.0f}",
                f"{max(peaks):,.0f}" if peaks else "?",
            ]
        )
    lines = [title(found), *(_aligned(rows) if len(rows) > 1 else ["nothing was measured"])]
    lines += textwrap.wrap("  ".join(f"{pair}\xa0{ratio:.2f}" for pair, ratio in found["ratios"].items()), 79)
    lines += [f"{name}: {SUBJECTS[name]}" for name in found["subjects"]]
    where = machine["device"] if machine["device"] != "cpu" else machine["processor"]
    lines.append(f"{where}, {machine['threads']} threads, torch {machine['torch']}, load {machine['load']} before")
    return [line.replace("\xa0", " ") for line in lines]


def title(found: Report) -> str:
    """The case in a line."""
    kinds = " + ".join(f"{found['teachers'].count(name)} {name}" for name in dict.fromkeys(found["teachers"]))
    channels, *size = found["image"]
    stopped = "; interrupted" if found["interrupted"] else ""
    return (
        f"{found['case']}: {kinds} -> {found['student']}, batch {found['batch']}, {found['classes']} classes, "
        f"{channels}x{size[0]}x{size[1]}, {found['rounds']} rounds{stopped}"
    )


def growth(reports: Sequence[Report]) -> list[str]:
    """How the mean iteration grows, a block of lines for each size that was varied; `reports` begins with the case as it is."""
    lines: list[str] = []
    for size in dict.fromkeys(found["varied"] for found in reports if found["varied"]):
        points = [found for found in reports if found["varied"] in (None, size)]
        names = list(dict.fromkeys(name for found in points for name in found["subjects"]))
        rows = [[size, *names]]
        for found in sorted(points, key=lambda found: _size(found, size)):
            cells = (f"{found[f'{name}_ms']:,.1f}" if name in found["subjects"] else "-" for name in names)
            rows.append([str(_size(found, size)), *cells])
        lines += [f"{points[0]['case']}: mean iteration in ms", *_aligned(rows)]
    return lines


def _size(found: Report, size: str) -> int:
    value = found[size]
    return len(value) if isinstance(value, list) else int(value)


def _spread(ms: float, detail: dict[str, Any]) -> str:
    """Between the quartiles, as a share of the median."""
    low, high = detail["quartiles_ms"]
    return f"{(high - low) / ms:.0%}".replace("%", " %")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )
    return [line.rstrip() for line in lines]
