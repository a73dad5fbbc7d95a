"""Every glyph that the widgets draw with, in Unicode and in ASCII, and the choice between the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Glyphs:
    """One set. Each glyph is one cell wide."""

    ascii: bool
    markers: str  # one a series, so that a line is known without its colour
    alarm: str  # a number that is not finite
    more: str  # something was cut
    axis: str
    tick: str
    reference: str
    whisker: str
    whisker_end: str
    shade: str  # the part of a bar that lies within the spread
    fills: str  # a cell filled from nothing to whole, in even steps
    equal: str  # the 1/K line, beside a bar
    equal_on_bar: str
    equal_head: str
    ramp: str  # a cell from cold to hot
    largest: str
    plus_minus: str
    between: str  # between two parts of one line


UNICODE = Glyphs(
    ascii=False,
    markers="●▲■◆○△□◇",
    alarm="✖",
    more="…",
    axis="│",
    tick="┤",
    reference="╌",
    whisker="─",
    whisker_end="┤",
    shade="▓",
    fills=" ▏▎▍▌▋▊▉█",
    equal="┊",
    equal_on_bar="│",
    equal_head="▾",
    ramp=" ░▒▓█",
    largest="◀",
    plus_minus="±",
    between="·",
)

ASCII = Glyphs(
    ascii=True,
    markers="*+ox#@%&",
    alarm="!",
    more="~",
    axis="|",
    tick="+",
    reference="-",
    whisker="-",
    whisker_end="|",
    shade="=",
    fills=" #",
    equal=":",
    equal_on_bar="|",
    equal_head="v",
    ramp=" .:-=+*#%@",
    largest="<",
    plus_minus="+-",
    between="|",
)


def glyphs(ascii: bool) -> Glyphs:
    """The set to draw with."""
    return ASCII if ascii else UNICODE


def locale_of(environ: Mapping[str, str]) -> str:
    """That of characters, as its variables say; "" where none of them is set."""
    return next((environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(name)), "")


def prefers_ascii(environ: Mapping[str, str], encoding: str | None) -> bool:
    """True where the locale, or the output's encoding, is not UTF-8, and on the bare Linux console (it has no braille)."""
    locale = locale_of(environ)
    named = locale.partition(".")[2].partition("@")[0]
    # Where LC_ALL is one of these, or is not installed, Python writes UTF-8 all the same, whatever the terminal can show.
    if environ.get("TERM") in {"linux", "dumb"} or locale in {"C", "POSIX"} or (named and not _is_utf8(named)):
        return True
    return not _is_utf8(encoding or named)


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("-", "").replace("_", "") in {"utf8", "utf8sig", "cp65001"}
