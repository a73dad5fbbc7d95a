"""What every screen shares: the app by its type, and what stands there where the terminal is too small for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from textual.screen import Screen
from textual.widgets import Static

from mmkd_tui import LEAST_COLUMNS, LEAST_ROWS

if TYPE_CHECKING:
    from mmkd_tui.app import MmkdApp


def app_of(screen: Screen[Any]) -> MmkdApp:
    """A screen's app, by its type."""
    return cast("MmkdApp", screen.app)


class TooSmall(Static):
    """One line that covers its screen, and is there only where the style sheet says so: no screen of its own, which would
    have to be taken away again from wherever it has come to lie.
    """

    DEFAULT_CSS = """
    TooSmall {
        layer: too-small; width: 100%; height: 100%; background: $background; display: none;
    }
    """

    def __init__(self) -> None:
        super().__init__(f"This terminal is too small: mmkd needs {LEAST_COLUMNS}x{LEAST_ROWS}.", markup=False)


class MmkdScreen(Screen[None]):
    """A whole screen of the app."""

    WHERE = ""  # whose keys in `keys.KEYS` are this screen's
    DEFAULT_CSS = """
    MmkdScreen {
        layers: default too-small;
        &.-too-narrow, &.-too-low {
            overflow: hidden;
            & > TooSmall { display: block; }
        }
    }
    """

    def on_mount(self) -> None:
        """Besides what each screen does of its own."""
        self.mount(TooSmall())

    @property
    def too_small(self) -> bool:
        """Whether nothing of it is seen."""
        return self.has_class("-too-narrow") or self.has_class("-too-low")

    @property
    def mmkd(self) -> MmkdApp:
        return app_of(self)
