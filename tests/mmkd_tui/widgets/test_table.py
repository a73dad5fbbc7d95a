"""Lists with a filter, by keyboard: Enter takes what is typed."""

from __future__ import annotations

import pytest
from support.screens import run
from textual.app import App, ComposeResult

from mmkd_tui.widgets.table import Column, FilterTable, Row, Table

NETWORKS = ("vgg8 trained", "resnet8", "resnet8x4", "resnet20x4 seed 1", "resnet20 seed 10", "resnet20 seed 1", "wrn_16_2")


class Listed(App[None]):
    """Networks, of which some are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.table = FilterTable((Column("", 10, grow=True), Column("", 10)), hint="")
        self.taken: list[str] = []

    def compose(self) -> ComposeResult:
        yield self.table

    def on_mount(self) -> None:
        self.offer()

    def offer(self) -> None:
        rows = [Row(name, (name.partition(" ")[0], name.partition(" ")[2])) for name in NETWORKS]
        self.table.show(rows, more=[Row("timm:vgg8", ("timm:vgg8", ""))])

    def on_table_chosen(self, event: Table.Chosen) -> None:
        self.taken.append(event.row)
        self.offer()


@pytest.mark.parametrize(
    ("keys", "taken"),
    [
        ([*"vgg8", "enter", "ctrl+u", *"resnet20", "enter"], ["vgg8 trained", "resnet20 seed 10"]),
        ([*"SEED", "space", *"1", "space", *"resnet20", "enter"], ["resnet20 seed 1"]),  # words in any order
        (["end", *["down"] * 6, *"resnet8", "enter"], ["resnet8"]),
        ([*"net", "enter"], ["resnet8"]),  # nothing is just that: the first that has it
        ([*"resnet8", "down", "enter", "enter"], ["resnet8x4", "resnet8x4"]),  # where one was taken, the cursor stays
        ([*"wrn", "ctrl+u", "enter"], ["wrn_16_2"]),
        ([*"none", "enter", "ctrl+u", "enter"], ["vgg8 trained"]),
    ],
)
def test_enter_takes_what_is_typed(keys: list[str], taken: list[str]) -> None:
    async def look() -> None:
        app = Listed()
        async with app.run_test() as pilot:
            app.table.filter.focus()
            await pilot.press(*keys)
            await pilot.pause()
            assert app.taken == taken

    run(look())
