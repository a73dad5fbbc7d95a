"""The glyphs by which home and wizard say what colour alone must not say, in Unicode and in ASCII. Each is one cell wide."""

from __future__ import annotations

from dataclasses import dataclass

from engine.run_client import RunState


@dataclass(frozen=True, slots=True)
class Marks:
    """One set."""

    here: str  # where one is
    chosen: str
    free: str
    done: str
    wrong: str
    left: str
    right: str
    arrow: str
    between: str
    more: str
    states: dict[RunState, str]


UNICODE = Marks(
    here="▸",
    chosen="●",
    free="○",
    done="✓",
    wrong="✖",
    left="◂",
    right="▸",
    arrow="→",
    between="·",
    more="…",
    states={
        RunState.STARTING: "◌",
        RunState.RUNNING: "▶",
        RunState.PAUSED: "‖",
        RunState.NOT_RESPONDING: "?",
        RunState.CRASHED: "✖",
        RunState.FINISHED: "✓",
        RunState.STOPPED: "■",
        RunState.FAILED: "✖",
        RunState.GONE: "✖",
    },
)

ASCII = Marks(
    here=">",
    chosen="*",
    free="-",
    done="+",
    wrong="!",
    left="<",
    right=">",
    arrow=">",
    between="|",
    more="~",
    states={
        RunState.STARTING: ".",
        RunState.RUNNING: ">",
        RunState.PAUSED: "=",
        RunState.NOT_RESPONDING: "?",
        RunState.CRASHED: "!",
        RunState.FINISHED: "+",
        RunState.STOPPED: "#",
        RunState.FAILED: "!",
        RunState.GONE: "!",
    },
)


def marks(ascii: bool) -> Marks:
    """The set to draw with."""
    return ASCII if ascii else UNICODE
