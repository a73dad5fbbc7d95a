"""Garbage is collected when nobody waits for an answer, and all the same when somebody never stops typing."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from mmkd_tui.housekeeping import PATIENCE, Housekeeper


class Ring:
    """What only a full collection frees, once it is old."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def own_policy() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def old_garbage() -> weakref.ref[Ring]:
    ring = Ring()
    gc.collect()  # has survived one: from now on, small collections do not look at it
    return weakref.ref(ring)


def churn() -> None:
    """Many times what makes the interpreter collect by itself."""
    for _ in range(200_000):
        Ring()


def test_the_interpreter_makes_no_full_collection_of_its_own() -> None:
    Housekeeper(lambda: 0.0)
    before = gc.get_stats()[2]["collections"]
    churn()
    assert gc.get_stats()[2]["collections"] == before


def test_while_keys_are_pressed_nothing_is_collected_and_then_all_is() -> None:
    now = [100.0]
    keeper = Housekeeper(lambda: now[0])
    lost = old_garbage()
    keeper.touched()
    keeper.tidy()
    assert lost() is not None
    now[0] += 1.0
    keeper.tidy()
    assert lost() is None


def test_who_never_stops_typing_does_not_fill_the_memory() -> None:
    now = [100.0]
    keeper = Housekeeper(lambda: now[0])
    lost = old_garbage()
    for _ in range(int(PATIENCE * 10) + 1):
        now[0] += 0.1
        keeper.touched()
        keeper.tidy()
    assert lost() is None
