"""How a run's state is said: a word, a glyph and a tone, so that nothing hangs on colour alone."""

from __future__ import annotations

from typing import Literal, NamedTuple

from engine.run_state import RunState
from mmkd_tui.widgets.marks import marks

Tone = Literal["good", "calm", "wait", "bad"]


class Said(NamedTuple):
    """A state for people."""

    glyph: str
    word: str
    tone: Tone


_TONES: dict[RunState, Tone] = {
    RunState.STARTING: "wait",
    RunState.RUNNING: "good",
    RunState.PAUSED: "wait",
    RunState.NOT_RESPONDING: "bad",
    RunState.CRASHED: "bad",
    RunState.FINISHED: "good",
    RunState.STOPPED: "calm",
    RunState.FAILED: "bad",
    RunState.GONE: "bad",
}


def said(state: RunState, ascii: bool) -> Said:
    """Its glyph, word and tone."""
    return Said(marks(ascii).states[state], state.value, _TONES[state])
