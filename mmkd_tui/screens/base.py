"""What every screen shares: the app by its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.screen import Screen

if TYPE_CHECKING:
    from mmkd_tui.app import MmkdApp


class MmkdScreen(Screen[None]):
    """A whole screen of the app."""

    WHERE = ""  # whose keys in `keys.KEYS` are this screen's

    @property
    def mmkd(self) -> MmkdApp:
        return cast("MmkdApp", self.app)
