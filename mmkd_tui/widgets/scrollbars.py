"""Scroll bars without the block glyphs by which Textual draws their ends, for terminals that have ASCII alone."""

from __future__ import annotations

from typing import ClassVar

from textual.scrollbar import ScrollBar, ScrollBarRender


class AsciiRender(ScrollBarRender):
    """Whole cells only."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "] * 8
    HORIZONTAL_BARS: ClassVar[list[str]] = [" "] * 8


def use_scrollbars(ascii: bool) -> None:
    """Of all widgets of this process."""
    ScrollBar.renderer = AsciiRender if ascii else ScrollBarRender
