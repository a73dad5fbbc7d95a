"""Every key of the terminal app in one table, which feeds bindings, footer, help and command palette."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from textual.binding import Binding


@dataclass(frozen=True, slots=True)
class Key:
    """One thing that a key does."""

    id: str
    keys: str  # Textual's names, separated by commas; the first is the one that is shown
    action: str
    label: str  # a word for the footer
    description: str  # a sentence for help and palette
    where: str  # the screen it belongs to, or "app": everywhere
    footer: bool = True
    priority: bool = False  # before whatever has the focus
    palette: bool = True


# The order is that of the footer and the help screen.
KEYS: tuple[Key, ...] = (
    Key("pause", "p", "pause", "Pause", "Hold the run between two steps", "dashboard"),
    Key("continue", "p", "unpause", "Go on", "Let a paused run go on", "dashboard"),
    Key(
        "respawn",
        "R",
        "respawn",
        "Resume",
        "Start a stopped, failed or crashed run again from its newest checkpoint",
        "dashboard",
    ),
    Key("stop", "s", "stop", "Stop", "Stop the run and save what there is (asks first)", "dashboard"),
    Key("checkpoint", "k", "checkpoint", "Checkpoint", "Save a checkpoint now", "dashboard", footer=False),
    Key("chart", "t", "next_chart", "Chart", "The next chart, or weights, where there is room for one only", "dashboard"),
    Key("weights", "w", "weights", "Weights", "Which teacher is trusted on which class, and back", "dashboard"),
    Key("log", "l", "log", "Log", "Show or hide the log", "dashboard"),
    Key("compare", "c", "compare", "Compare", "Draw another run's curves beside these", "dashboard"),
    Key("log-y", "y", "log_y", "Log y", "A logarithmic y axis for the loss, and back", "dashboard", footer=False),
    Key("smooth", "m", "smoothing", "Smooth", "Smooth the curves (moving average, 0.9), and back", "dashboard", footer=False),
    Key("earlier", "left_square_bracket", "earlier", "Earlier", "The curves of the training before", "dashboard", footer=False),
    Key("later", "right_square_bracket", "later", "Later", "The curves of the training after", "dashboard", footer=False),
    Key("copy", "Y", "copy", "Copy command", "Copy the command that comes back to this run", "dashboard", footer=False),
    Key("folder", "F", "copy_folder", "Copy folder", "Copy the path of the run's folder", "dashboard", footer=False),
    Key(
        "error",
        "E",
        "copy_error",
        "Copy error",
        "Copy why the run failed, with the end of its console",
        "dashboard",
        footer=False,
    ),
    Key(
        "home",
        "escape",
        "home",
        "Back",
        "Back to the presets and runs, or to the sweep it was opened from; this run goes on",
        "dashboard",
        footer=False,
    ),
    Key("order", "o", "order", "Order", "The runs by state, the best first, or as planned", "sweep"),
    Key("home", "escape", "home", "Home", "To the presets and runs; the sweep goes on", "sweep"),
    Key("help", "question_mark,f1", "help", "Help", "All keys of this screen", "app"),
    Key("palette", "ctrl+p", "command_palette", "Palette", "Type what you want to do", "app", footer=False, palette=False),
    Key("theme", "f2", "change_theme", "Theme", "Choose the colours", "app", footer=False),
    Key(
        "sleep",
        "ctrl+z",
        "suspend_process",
        "Sleep",
        "To the shell, which comes back here by fg; a live run goes on",
        "app",
        footer=False,
        priority=True,
    ),
    Key("leave", "q,ctrl+q,ctrl+c", "quit", "Leave", "Leave mmkd; a live run goes on if you wish", "app"),
    Key("new", "n", "new", "New", "Plan a new experiment, step by step", "home"),
    Key("edit", "e", "edit", "Edit", "Plan an experiment that begins as the chosen preset", "home"),
    Key(
        "find",
        "slash",
        "find",
        "Find",
        "Only runs that have the words you type: name, method, state or seed",
        "home",
    ),
    Key("all", "escape", "show_all", "All runs", "All runs again", "home"),
    Key("delete", "d,delete", "delete", "Delete", "Delete the chosen run and its folder (asks first)", "home"),
    Key("next", "ctrl+n,f8,alt+right", "next", "Next", "Go on to the next step", "wizard", priority=True),
    Key("back", "ctrl+o,f7,alt+left", "back", "Back", "Go back a step; nothing is lost", "wizard", priority=True),
    Key("save", "ctrl+s", "save", "Save", "Save what is planned as a preset (asks where)", "wizard", priority=True),
    Key("start", "ctrl+r,f5", "start", "Start", "Start the run that is planned", "wizard", priority=True),
    Key("cancel", "escape,q,ctrl+q,ctrl+c", "cancel", "Leave", "Back to the list; asks where something would be lost", "wizard"),
)


def keys_of(*where: str) -> Iterator[Key]:
    """The keys of these places, in the table's order."""
    return (key for key in KEYS if key.where in where)


_NAMES = {
    "question_mark": "?",
    "escape": "esc",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "slash": "/",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
}


def key_name(key: str) -> str:
    """How a key is written for people: `ctrl+q`, `?`, `esc`."""
    *modifiers, last = key.strip().split("+")
    return "+".join([*modifiers, _NAMES.get(last, last)])


def bindings(where: str) -> list[Binding]:
    """The BINDINGS of a screen (or, for "app", of the app)."""
    return [
        Binding(
            name.strip(),
            key.action,
            key.label,
            show=key.footer and index == 0,
            key_display=key_name(name),
            priority=key.priority,
            tooltip=key.description,
            id=f"{key.where}.{key.id}" + (f".{index}" if index else ""),
        )
        for key in keys_of(where)
        for index, name in enumerate(key.keys.split(","))
    ]
