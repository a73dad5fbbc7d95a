"""The table of keys: no key means two things on one screen, and every entry has its action, its help and its footer."""

from __future__ import annotations

import itertools

import pytest

from mmkd_tui.app import MmkdApp
from mmkd_tui.keys import KEYS, bindings, key_name, keys_of
from mmkd_tui.screens.dashboard import DashboardScreen
from mmkd_tui.screens.help import KEY, page

ONE_KEY_TWO_STATES = {("pause", "continue")}  # which of the two applies is the run's state


def test_no_key_means_two_things_in_one_place() -> None:
    for where in {key.where for key in KEYS}:
        for first, second in itertools.combinations(keys_of(where), 2):
            shared = set(first.keys.split(",")) & set(second.keys.split(","))
            assert not shared or (first.id, second.id) in ONE_KEY_TWO_STATES


@pytest.mark.parametrize("where", sorted({key.where for key in KEYS} - {"app"}))
def test_help_tells_one_meaning_of_a_key(where: str) -> None:
    lines = page(where, False, 120)
    named = [name for line in lines if line and line[0].role == KEY for name in line[0].text.replace(",", " ").split()]
    shared = {key_name(KEYS[0].keys)} if where == "dashboard" else set()  # p holds a run, or lets it go on
    assert {name for name in named if named.count(name) > 1} == shared


def test_ids_are_unique_in_their_place() -> None:
    places = [(key.where, key.id) for key in KEYS]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(("where", "owner"), [("app", MmkdApp), ("dashboard", DashboardScreen)])
def test_every_key_has_an_action(where: str, owner: type) -> None:
    for key in keys_of(where):
        assert callable(getattr(owner, f"action_{key.action}"))


def test_every_name_of_a_key_is_bound_and_only_the_first_is_in_the_footer() -> None:
    found = bindings("app")
    names = [name for key in keys_of("app") for name in key.keys.split(",")]
    assert [binding.key for binding in found] == names
    assert {binding.key for binding in found if binding.show} == {"q", "question_mark"}


def test_keys_are_written_as_people_read_them() -> None:
    assert [key_name(name) for name in ("question_mark", "ctrl+q", "escape", "R")] == ["?", "ctrl+q", "esc", "R"]


@pytest.mark.parametrize("ascii", [False, True])
@pytest.mark.parametrize("width", [56, 78, 158])
def test_help_names_every_key_of_a_screen(ascii: bool, width: int) -> None:
    lines = ["".join(span.text for span in line) for line in page("dashboard", ascii, width)]
    said = " ".join(" ".join(lines).split())
    for key in keys_of("dashboard", "app"):
        assert key.description in said
    assert said.isascii() == ascii
    assert max(map(len, lines)) <= width
