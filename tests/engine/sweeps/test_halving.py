"""ASHA's rule, against the algorithm of the paper carried out literally."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from engine.sweeps.form import HalvingPart
from engine.sweeps.halving import by_promise, worthy

ETA = 3


def test_of_three_that_reach_a_rung_the_best_goes_on() -> None:
    assert worthy({"a": [0.5]}, ETA) == frozenset()  # floor(1/3) is none
    assert worthy({"a": [0.5], "b": [0.7]}, ETA) == frozenset()
    assert worthy({"a": [0.5], "b": [0.7], "c": [0.6]}, ETA) == {"b"}
    assert worthy({"a": [0.5], "b": [0.7], "c": [0.6], "d": []}, ETA) == {"b", "d"}  # below the first rung nobody is stopped


def test_one_that_was_held_goes_on_when_others_turn_out_worse() -> None:
    scores = {"a": [0.9, 0.91], "b": [0.8], "c": [0.1], "d": [0.2], "e": [0.3]}
    assert "b" not in worthy(scores, ETA)
    assert "b" in worthy(scores | {"f": [0.4]}, ETA)  # the second best of six
    assert "a" not in worthy(scores, ETA)  # alone on its rung: it waits for others there


def test_equal_scores_go_by_the_plan() -> None:
    assert worthy({"a": [0.5], "b": [0.5], "c": [0.5]}, ETA) == {"a"}
    assert worthy({name: [-math.inf] for name in "abc"}, ETA) == {"a"}


def test_the_most_promising_are_on_the_highest_rung_and_the_best_there() -> None:
    assert by_promise({"a": [0.9], "b": [0.5, 0.6], "c": [0.4, 0.7], "d": []}) == ["c", "b", "a"]


@given(st.lists(st.lists(st.integers(0, 5).map(float), max_size=4), max_size=12), st.integers(2, 4))
def test_it_is_the_papers_promotion_rule(reached: list[list[float]], eta: int) -> None:
    """Algorithm 2's get_job: of each rung, the top floor(|rung|/eta), less those that were promoted already."""
    scores = dict(enumerate(reached))
    found = {run for run, there in scores.items() if not there}
    for rung in range(4):
        there = [run for run in scores if len(scores[run]) > rung]
        better = {run: sum((scores[o][rung], -o) > (scores[run][rung], -run) for o in there) for run in there}
        candidates = {run for run in there if better[run] < math.floor(len(there) / eta)}
        promoted = {run for run in there if len(scores[run]) > rung + 1}
        found |= candidates - promoted
    assert worthy(scores, eta) == found


def test_rungs_are_a_geometric_series_that_ends_before_the_run_does() -> None:
    part = HalvingPart(min_epochs=2, eta=3)
    assert part.rungs(54) == (2, 6, 18)
    assert part.rungs(55) == (2, 6, 18, 54)
    assert part.rungs(2) == ()


def test_a_loss_is_better_when_it_is_less_and_what_is_no_number_is_the_worst() -> None:
    loss, accuracy = HalvingPart(min_epochs=1, metric="measured_loss"), HalvingPart(min_epochs=1)
    assert loss.score(0.1) > loss.score(0.2) > loss.score(math.nan)
    assert accuracy.score(0.2) > accuracy.score(0.1) > accuracy.score(None)
