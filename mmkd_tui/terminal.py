"""What this terminal can show, for `mmkd doctor`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping

from engine.doctor.finding import Finding
from mmkd_tui import LEAST_COLUMNS, LEAST_ROWS
from mmkd_tui.widgets.glyphs import locale_of, prefers_ascii

SECTION = "terminal"
COMFORT = (80, 24)


def findings(
    environment: Mapping[str, str] = os.environ, encoding: str | None = None, terminal: bool | None = None
) -> Iterator[Finding]:
    """Of the terminal that stdout is; there may be none."""
    encoding = sys.stdout.encoding if encoding is None else encoding
    terminal = sys.stdout.isatty() if terminal is None else terminal
    name = environment.get("TERM", "")
    if not terminal:
        yield Finding(SECTION, "terminal", "stdout is none: mmkd run tells its progress in plain lines", "note")
        return
    if name in ("", "dumb"):
        remedy = "export TERM=xterm-256color, if it is such a terminal"
        yield Finding(SECTION, "terminal", f"TERM is {name or 'not set'}", "warning", remedy)
    else:
        yield Finding(
            SECTION, "terminal", name + (", in tmux or screen" if environment.get("TMUX") or name.startswith("screen") else "")
        )
    yield _colours(environment, name)
    if prefers_ascii(environment, encoding):
        remedy = "for braille charts: export LC_ALL=C.UTF-8, and a terminal and font that know UTF-8"
        found = locale_of(environment) or encoding or "unknown"
        yield Finding(SECTION, "characters", f"{found}: drawn in ASCII", "note", remedy)
    else:
        yield Finding(SECTION, "characters", f"{encoding}: charts are drawn in braille (--ascii where the font has none)")
    columns, rows = shutil.get_terminal_size()
    size = f"{columns}x{rows}"
    if columns < LEAST_COLUMNS or rows < LEAST_ROWS:
        yield Finding(SECTION, "size", size, "warning", f"the app needs {LEAST_COLUMNS}x{LEAST_ROWS}; make the window larger")
    elif columns < COMFORT[0] or rows < COMFORT[1]:
        yield Finding(SECTION, "size", size, "note", f"it is made for {COMFORT[0]}x{COMFORT[1]} and more")
    else:
        yield Finding(SECTION, "size", size)


def _colours(environment: Mapping[str, str], name: str) -> Finding:
    if environment.get("NO_COLOR"):
        return Finding(SECTION, "colours", "none (NO_COLOR is set)")
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return Finding(SECTION, "colours", "16 million")
    if "256color" in name:
        remedy = "SSH does not hand on COLORTERM; if your terminal has more: export COLORTERM=truecolor"
        return Finding(SECTION, "colours", "256", "note", remedy)
    return Finding(SECTION, "colours", "16", "note", "mmkd tui --theme ansi-dark (or ansi-light) suits them")
