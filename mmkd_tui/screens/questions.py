"""The questions that several screens ask before a run is left, stopped, or started beside another one."""

from __future__ import annotations

from pathlib import Path

from engine.gpu_lock import GpuBusyError
from mmkd_tui.screens.ask import Answer, Ask

DETACH, STOP, GO_ON, START = "detach", "stop", "go on", "start"


def leave_question() -> Ask:
    """DETACH is the default: Enter, or asking to leave once more, never costs a run anything."""
    return Ask(
        "The run is live. Leave it?",
        "Detached, it goes on without this window; the terminal then says how to come back.",
        (
            Answer(DETACH, "Detach", ("d", "q", "ctrl+q", "ctrl+c")),
            Answer(STOP, "Stop and save", ("s",)),
            Answer(GO_ON, "Cancel", ("escape", "c")),
        ),
    )


def stop_question() -> Ask:
    """GO_ON is the default."""
    return Ask(
        "Stop the run?",
        "It ends after its step and saves a checkpoint, from which it can go on later.",
        (Answer(GO_ON, "Go on", ("n",)), Answer(STOP, "Stop and save", ("s", "y"))),
    )


def busy_question(error: GpuBusyError) -> Ask:
    """GO_ON, which starts nothing, is the default."""
    run = Path(error.holder)
    return Ask(
        f"GPU {error.gpu} is busy",
        f"{run.name} is at work on it, in {run.parent}. Two runs on one GPU share its time and its memory: both are slower, and "
        "may fail.",
        (Answer(GO_ON, "Cancel", ("c",)), Answer(START, "Start anyway", ("s",))),
    )


def lost_question(machine: str) -> Ask:
    """GO_ON, which starts nothing, is the default."""
    return Ask(
        "Take the run over?",
        f"It was at work on {machine}, which gives no sign of life. If that machine or container is gone for good, the run can "
        "go on here. If it may still be at work, wait: two processes would spoil the run.",
        (Answer(GO_ON, "Cancel", ("c",)), Answer(START, "Take over", ("t",))),
    )
