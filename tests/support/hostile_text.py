"""Text that would command a terminal, reverse what is read, or be taken for markup; and finding it in what was written."""

from __future__ import annotations

import re

C1 = "".join(map(chr, range(0x80, 0xA0)))
BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
# None of it is in what Textual or Rich write themselves.
LINES = (
    "\x1b[2J\x1b[66;66H\x1b[66z", "\x1b[?66h\x1b[66;66r\x1b[66n", "\x1b]0;EVIL\x07",
    "\x1b]8;;http://evil.example\x1b\\x\x1b]8;;\x1b\\",
    "\x1b]52;c;RVZJTA==\x07", "\x1bP+q5669\x1b\\", "\x1b_EVIL\x1b\\",
    "\x1b^EVIL\x1b\\", "\x1bc\x1b#8", "\x9b66z\x9d0;EVIL\x9c\x90q\x9c",
    C1,
    BIDI, "\u202eLIVE\u2066", "[bold red]EVIL[/]", "[/red]x[bold]", "[link=http://evil.example]x[/link]", "[@click=app.quit]x[/]",
    "a\x08\x08\x08b\rc\x0b\x0c\x7f\x00\x05\x0e\x0f", "\u2028\u2029\ufeff\u00ad\u200b", "\ud800\udfff", "\\x1b[66z",
    "\U000e0041\U000e007f",
)  # fmt: skip
NAME = "N\x1b]0;EVIL\x07\x9b66z\u202e[/red]x[bold][@click=app.quit]"

# In bytes of a terminal: sequences of ours with our parameters, control characters beyond those, C1 and bidi in UTF-8.
_RAW = re.compile(
    rb"\x1b\[\??66|\x1b\]0;EVIL|\x1b\]8;;http|\x1b\]52;|\x1bP\+q5669|\x1b_EVIL|\x1b\^EVIL|\x1bc|\x1b#8|\x1bPq|[\x00\x05\x0b\x0c\x7f]"
    rb"|\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xa8-\xae]|\xe2\x81[\xa6-\xa9]|\xd8\x9c|\xed[\xa0-\xbf]|\xf3\xa0[\x80\x81]"
)


def raw_in(written: bytes) -> list[bytes]:
    """What a terminal would have obeyed, with what stands around it."""
    return [written[max(found.start() - 40, 0) : found.end() + 20] for found in _RAW.finditer(written)]


def unprintable_in(text: str) -> set[str]:
    """For what no terminal's sequences belong into at all."""
    return {char for char in text if char != "\n" and not char.isprintable()} - set("\u200c\u200d")
