"""The log pane: what the run says to people, bounded, and never taken for markup."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterable, Sequence

from rich.text import Text
from textual import events
from textual.widgets import RichLog

from engine.text import plain
from mmkd_tui.run_view import Message, RunView
from mmkd_tui.widgets.lines import escaped

LINES = 500
LIMIT = 2000  # characters of a message
EMPTY = Text("nothing so far", "dim")
STAMP = r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+: "  # before a message that a run writes to its console, too


def untold(console: Sequence[str], messages: Iterable[Message]) -> list[str]:
    """The console's lines without those that are told as messages."""
    text = "\n".join(console)
    for said in {message.text for message in messages if message.text in text}:
        text = re.sub(f"{STAMP}{re.escape(said)}(\\n|\\Z)", "", text, flags=re.MULTILINE)
    text = text.strip("\n")
    return text.split("\n") if text else []


class LogPane(RichLog):
    """The newest 500 messages, wrapped to the width that the pane has now."""

    def __init__(self, *, ascii: bool = False, id: str | None = None) -> None:
        super().__init__(id=id, max_lines=LINES, wrap=True, markup=False, highlight=False, min_width=1)
        self._ascii = ascii
        self._texts: deque[Text] = deque(maxlen=LINES)
        self._said = 0
        self._unwritten: deque[Text] = deque(maxlen=LINES)  # they came while the pane had no width to wrap them to
        self._width = 0  # that what is written was wrapped to; 0: nothing is written
        self._tail: list[str] = []  # as it was last shown

    def show(self, view: RunView) -> None:
        """Adds the messages that are new."""
        new = min(view.said - self._said, len(view.messages))
        self._said = view.said
        for message in list(view.messages)[len(view.messages) - new :]:
            stamp = time.strftime("%H:%M:%S ", time.localtime(message.t))
            style = {"error": "bold", "warning": "italic"}.get(message.level, "")
            word = f"{message.level}: " if message.level in ("error", "warning") else ""
            said = escaped(plain(message.text, LIMIT, keep="\n").rstrip(), self._ascii)
            self._add(Text.assemble((stamp, "dim"), (word + said, style)))

    def show_console(self, lines: Sequence[str]) -> None:
        """The end of the console, for a run that has failed: again where it has failed again."""
        if list(lines) == self._tail:
            return
        self._tail = list(lines)
        if lines:
            self._add(Text("the end of console.log:", "bold"))
        for line in lines:
            self._add(Text(escaped(plain(line, LIMIT), self._ascii)))

    def on_resize(self, event: events.Resize) -> None:
        """What came meanwhile is written; where the width is another one, or the first one, all anew."""
        if event.size.width not in (0, self._width):
            self._width = event.size.width
            self.clear()
            self._unwritten = deque(self._texts or [EMPTY], LINES)
        self._write()

    def on_show(self) -> None:
        self.scroll_end(animate=False)

    def _add(self, text: Text) -> None:
        if not self._texts:
            self.clear()
        self._texts.append(text)
        self._unwritten.append(text)
        self._write()

    def _write(self) -> None:
        while self._unwritten and self.size.width:
            self.write(self._unwritten.popleft())
