"""What a run came to, in sentences and in a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from engine.run_state import RunState
from engine.text import one_line
from mmkd_tui.figures import number_of, percent
from mmkd_tui.report.record import Record

NEAR = 0.0005  # of accuracy: what is nearer than this is called the same
SHOWN = 3  # classes that are named
TOO_GOOD = "The best epoch was chosen on the test split: these accuracies are too good to report."
NARROW = 18  # characters for which the narrowest legend of a chart has room


def apart(names: Sequence[str], room: int) -> list[str]:
    """Names of teachers or runs in at most about `room` characters; with their numbers before them where they begin alike."""
    if len({one_line(name, NARROW) for name in names}) == len(names):
        return [one_line(name, room) for name in names]
    return [f"{number}: {one_line(name, room)}" for number, name in enumerate(names, start=1)]


def teachers_of(record: Record, room: int = 40) -> list[str]:
    """What its teachers are called in tables and charts."""
    return apart([teacher.label for teacher in record.view.teachers], room)


def verdict(record: Record) -> list[str]:
    """What the distillation brought."""
    result, started = record.result, record.view.started
    assert started is not None
    student, method = one_line(started.student, 60), one_line(started.method, 20)
    own, alone, average = (result[f"{what}_accuracy"] for what in ("student", "student_alone", "ensemble"))
    if own is None:
        best = result["best_accuracy"]
        ended = {
            RunState.FAILED: "The run failed.",
            RunState.CRASHED: "The run crashed; mmkd resume goes on with it.",
            RunState.STOPPED: "The run was stopped; mmkd resume goes on with it.",
        }.get(record.state, "The run is not over yet.")
        if started.only_teachers:
            teachers = number_of(len(started.teachers), "teacher")
            about = f"It trains {teachers} on {one_line(started.dataset, 40)}, and no student."
            too_good = [TOO_GOOD] if result["selected_on"] == "test" else []
            return [about, *too_good] if record.state is RunState.FINISHED else [ended, about]
        said = f" So far {student} reaches {percent(best)} on the {one_line(result['selected_on'], 20)} split." if best else ""
        return [ended + said]
    found = [f"{student}, trained by {method} on {one_line(started.dataset, 40)}, reaches {percent(own)} on the test split."]
    comparisons = [
        f"{_points(own - accuracy)} {what} ({percent(accuracy)})"
        for accuracy, what in ((alone, "the same student without teachers"), (average, "the plain average of the teachers"))
        if accuracy is not None
    ]
    if comparisons:
        found.append(f"That is {' and '.join(comparisons)}.")
    if result["selected_on"] == "test":
        found.append(TOO_GOOD)
    return found


def _points(difference: float) -> str:
    if abs(difference) < NEAR:
        return "as good as"
    return f"{abs(difference) * 100:.2f} points {'more' if difference > 0 else 'less'} than"


def networks(record: Record) -> list[tuple[str, str, str, str]]:
    """Rows of the result: network, test accuracy, logit weight, feature weight."""
    result, started = record.result, record.view.started
    assert started is not None
    rows = [
        (f"teacher {name}", percent(t["accuracy"]), _weight(t["logit_weight"]), _weight(t["feature_weight"]))
        for name, t in zip(apart([t["name"] for t in result["teachers"]], 60), result["teachers"], strict=True)
    ]
    more = [
        ("plain average of the teachers", result["ensemble_accuracy"]),
        ("student without teachers", result["student_alone_accuracy"]),
        (f"student {one_line(started.student, 60)} by {one_line(started.method, 20)}", result["student_accuracy"]),
    ]
    return rows + [(name, percent(accuracy), "", "") for name, accuracy in more if accuracy is not None]


def _weight(weight: float | None) -> str:
    return "" if weight is None else f"{weight:.3f}"


def learned(record: Record) -> list[str]:
    """What the weight networks came to trust."""
    phase, started = record.by_class, record.view.started
    if phase is None or phase.by_class is None or started is None:
        return []
    found = []
    teachers = teachers_of(record, 60)
    ended = phase.by_class
    kinds = (
        ("logit", ended.logit_weights, ended.logit_weights_by_class),
        ("feature", ended.feature_weights, ended.feature_weights_by_class),
    )
    for kind, weights, table in kinds:
        if len(weights) != len(teachers) or not weights or max(weights) - min(weights) < 1e-6:
            continue
        most = max(range(len(weights)), key=lambda k: weights[k])
        text = f"By {kind}s, {teachers[most]} counts most: {weights[most]:.2f}, where equal weights are {1 / len(weights):.2f}."
        trusted = [max(range(len(row)), key=lambda k: row[k]) for row in table if len(row) == len(teachers)]
        others = [(teacher, count) for teacher, count in Counter(trusted).most_common() if teacher != most]
        for teacher, count in others[:SHOWN]:
            numbers = [number for number, first in enumerate(trusted) if first == teacher]
            numbers.sort(key=lambda number: -table[number][teacher])
            named = ", ".join(_class(started.classes, number) for number in numbers[:SHOWN])
            more = ", ..." if count > SHOWN else ""
            text += f" {teachers[teacher]} is trusted most on {count} of {len(trusted)} classes ({named}{more})."
        if trusted and not others:
            text += " So it is on every class."
        found.append(text)
    return found


def _class(names: Sequence[str], number: int) -> str:
    return one_line(names[number], 40) if number < len(names) else str(number)
