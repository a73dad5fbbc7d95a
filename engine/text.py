"""Text from files and errors made harmless before a terminal sees it."""

from __future__ import annotations

import re
import unicodedata

# Control, surrogate and invisible formatting characters, line and paragraph separators: what can move the cursor, reverse the
# reading direction, break a line or fail to be encoded. Zero width joiners stay: scripts and emoji need them.
_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS = "\u200c\u200d"
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$])")
_SUSPECT = re.compile(r"[^\x20-\x7e]")


def plain(text: str, limit: int | None = None, *, keep: str = "") -> str:
    """`text` with every control and bidi character written as an escape, except those in `keep` (for example "\\n").

    With a limit, the result has at most so many characters; what was cut is shown by an ellipsis.
    """
    if limit is not None:
        text = text[: limit + 1]  # escapes only lengthen it, so no more than this can be shown
    safe = _SUSPECT.sub(lambda found: _escaped(found[0], keep), text)
    if limit is not None and len(safe) > limit:
        return safe[: max(limit - 1, 0)] + "…"
    return safe


def one_line(text: str, limit: int | None = None) -> str:
    """`text` on one line: runs of white space become one space, and the rest is made plain."""
    return plain(" ".join(text.split()), limit)


def md(text: str, limit: int | None = None) -> str:
    """As `one_line`, so that Markdown shows it as it is."""
    return _MARKDOWN.sub(r"\\\1", one_line(text, limit))


def slug(label: str, fallback: str) -> str:
    """A part of a folder's name."""
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-.")[:40].strip("-.") or fallback


def _escaped(character: str, keep: str) -> str:
    if character in keep or character in _JOINERS or unicodedata.category(character) not in _CATEGORIES:
        return character
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
