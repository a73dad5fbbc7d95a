"""The keys at the foot of a screen: those that do something now, a click is as good as the key, help and the way out stay."""

from __future__ import annotations

import gc

from support.screens import dashboard, lines, played, run, shown, until

from mmkd_tui.widgets.key_bar import KeyBar, Offer, placed

WORDS = (("p", "Pause"), ("s", "Stop"), ("w", "Weights"), ("question_mark", "Help"), ("q", "Leave"))
OFFERS = [Offer(key, word) for key, word in WORDS]


def test_where_there_is_no_room_for_all_help_and_the_way_out_stay() -> None:
    assert [offer.label for _, offer in placed(OFFERS, 80, 2)] == ["Pause", "Stop", "Weights", "Help", "Leave"]
    assert [offer.label for _, offer in placed(OFFERS, 24, 2)] == ["Pause", "Help", "Leave"]
    for width in range(60):
        assert all(at + offer.width <= width for at, offer in placed(OFFERS, width, 2))


def test_a_click_on_a_key_does_what_the_key_does() -> None:
    async def test() -> None:
        client = played()
        async with shown(client) as pilot:
            assert "p Pause" in lines(pilot.app)[-1]
            await pilot.click(KeyBar, offset=(lines(pilot.app)[-1].index("Pause"), 0))
            await until(pilot, lambda: bool(client.requests))
        assert client.requests[0][1] == "pause"

    run(test())


def test_keys_that_change_again_and_again_leave_nothing_behind() -> None:
    async def test() -> None:
        async with shown(played()) as pilot:
            counts = []
            for _ in range(3):
                for _ in range(10):
                    dashboard(pilot.app).refresh_bindings()
                    await pilot.pause(0.02)
                gc.collect()
                counts.append(len(gc.get_objects()))
            assert counts[2] - counts[1] < 500, counts  # a footer of Textual leaves a thousand each time

    run(test())
