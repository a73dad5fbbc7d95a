"""`KeyBar`: the keys that do something now, at the foot of a screen; a click is as good as the key.

Textual's own footer makes all its widgets anew at each change, and never lets go of the old ones.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from textual import events

from mmkd_tui.keys import key_name
from mmkd_tui.widgets.lines import Line, LinesWidget, Span, shown

KEY, LABEL = "key-bar--key", "key-bar--label"


class Offer(NamedTuple):
    """A key and the word for what it does."""

    key: str
    label: str

    @property
    def width(self) -> int:
        return cell_len(key_name(self.key)) + 1 + cell_len(self.label)


def placed(offers: list[Offer], width: int, gap: int) -> list[tuple[int, Offer]]:
    """Where each begins. Where there is not room for all, those in the middle go: the last ones are help and the way out."""
    kept = list(offers)
    while kept and sum(offer.width + gap for offer in kept) - gap > width:
        kept.pop(-3 if len(kept) > 2 else 0)
    result, at = [], 0
    for offer in kept:
        result.append((at, offer))
        at += offer.width + gap
    return result


class KeyBar(LinesWidget):
    """One line, drawn anew when the keys of its screen change."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {KEY, LABEL}

    DEFAULT_CSS = """
    KeyBar {
        dock: bottom;
        height: 1;
        padding: 0 1;
        background: transparent;  /* a shade of its own turns to white where there are sixteen colours */
        & > .key-bar--key { color: $footer-key-foreground; text-style: bold; }
        & > .key-bar--label { color: $text-muted; }
    }
    """

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, lambda screen: self.changed_data())

    def _placed(self, width: int) -> list[tuple[int, Offer]]:
        offers: dict[str, Offer] = {}
        for active in self.screen.active_bindings.values():
            if active.binding.show and active.enabled:
                offers.setdefault(active.binding.action, Offer(active.binding.key, active.binding.description))
        wide = placed(list(offers.values()), width, 3)
        return wide if len(wide) == len(offers) else placed(list(offers.values()), width, 2)

    def draw(self, width: int, height: int) -> list[Line]:
        spans: list[Span] = []
        used = 0
        for at, offer in self._placed(width):
            spans += [
                Span(" " * (at - used)),
                Span(key_name(offer.key), KEY),
                Span(f" {shown(offer.label, self.ascii)}", LABEL),
            ]
            used = at + offer.width
        return [tuple(spans)]

    def on_click(self, event: events.Click) -> None:
        x = event.get_content_offset_capture(self).x
        for at, offer in self._placed(self.size.width):
            if at <= x < at + offer.width:
                event.stop()
                self.app.simulate_key(offer.key)
