"""The glyphs by which home and wizard say what colour alone must not say, in Unicode and in ASCII. Each is one cell wide."""

from __future__ import annotations

from dataclasses import dataclass

from engine.run_state import RunState


@dataclass(frozen=True, slots=True)
class Marks:
    """One set."""

    chosen: str
    free: str
    done: str
    wrong: str
    left: str
    right: str
    arrow: str
    between: str
    states: dict[RunState, str]


UNICODE = Marks(
    chosen="●",
    free="○",
    done="✓",
    wrong="✖",
    left="◂",
    right="▸",
    arrow="→",
    between="·",
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
    chosen="*",
    free="-",
    done="+",
    wrong="!",
    left="<",
    right=">",
    arrow=">",
    between="|",
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
