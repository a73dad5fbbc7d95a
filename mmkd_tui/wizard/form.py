"""Settings as rows: name, input, unit and meaning, and what is wrong with it just below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult, RenderResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Input, Static

from engine.preset_errors import field_at
from engine.text import plain
from engine.yaml_lines import KeyPath, dotted
from mmkd_tui.draft import Draft, Problem, choices_of
from mmkd_tui.widgets.marks import marks
from mmkd_tui.widgets.table import CleanInput, shown_text

LONG = ("arch", "checkpoint", "features", "path")  # names that need a wide field


class DraftChanged(Message):
    """A choice was made, right or wrong."""


class Choice(Widget, can_focus=True):
    """One of a few words, changed by left and right (or a click)."""

    DEFAULT_CSS = "Choice { height: 1; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "Before", show=False),
        Binding("right,space", "step(1)", "Next", show=False),
        Binding("enter", "app.focus_next", show=False),
    ]

    value: reactive[str] = reactive("", init=False)

    class Changed(Message):
        """Another word was chosen."""

        def __init__(self, choice: Choice, value: str) -> None:
            super().__init__()
            self.choice, self.value = choice, value

    def __init__(self, options: Sequence[str], value: str, *, ascii: bool = False, classes: str | None = None) -> None:
        super().__init__(classes=classes)
        self.options = tuple(options)
        self.ascii = ascii
        self.set_reactive(Choice.value, value)

    def render(self) -> RenderResult:
        glyphs = marks(self.ascii)
        return Content.assemble((glyphs.left, "dim"), f" {shown_text(self.value, self.ascii)} ", (glyphs.right, "dim"))

    def action_step(self, by: int) -> None:
        """The next word, round and round."""
        index = self.options.index(self.value) if self.value in self.options else -by
        self.value = self.options[(index + by) % len(self.options)]
        self.post_message(self.Changed(self, self.value))

    def on_click(self, event: events.Click) -> None:
        self.action_step(-1 if event.x < 2 else 1)


class SettingRow(Vertical):
    """One setting of the draft."""

    def __init__(self, draft: Draft, path: KeyPath, *, ascii: bool = False) -> None:
        kind = "-prose" if path == ("description",) else "-long" if path[-1] in LONG else ""
        super().__init__(classes=f"setting {kind}")
        self.path = path
        self._draft = draft
        self._ascii = ascii
        self._problem = ""
        found = field_at(path, draft.data)
        assert found is not None, path
        self._before = plain(draft.text(path))
        choices = choices_of(found)
        extra = found.json_schema_extra
        unit = str(extra.get("unit", "none")) if isinstance(extra, dict) else "none"
        self._meaning = Content((found.description or "") + ("" if unit in ("none", "factor") else f" ({unit})"))
        self.editor: Choice | CleanInput
        if choices:
            self.editor = Choice(choices, self._before, ascii=ascii, classes="field")
        else:
            nullable = found.default is None
            self.editor = CleanInput(self._before, placeholder="null" if nullable else "", compact=True, classes="field")
            self.editor.select_on_focus = False
        self._error = Static("", classes="problem", markup=False)
        self._error.display = False

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield Static(str(self.path[-1]), classes="label", markup=False)
            yield self.editor
            yield Static(self._meaning, classes="meaning", markup=False)
        yield self._error

    @on(Input.Changed)
    @on(Choice.Changed)
    def _edited(self, event: Input.Changed | Choice.Changed) -> None:
        event.stop()
        if event.value == self._before:
            return
        self._before = event.value
        self._draft.put(self.path, event.value)
        self.post_message(DraftChanged())

    @on(Input.Submitted)
    def _done(self, event: Input.Submitted) -> None:
        event.stop()
        self.screen.focus_next()

    def take_up(self) -> None:
        """Shows what the draft has now, where something else than this row changed it."""
        self._before = plain(self._draft.text(self.path))
        self.editor.value = self._before

    def tell(self, problem: str) -> None:
        """Shows what is wrong with it; "" where nothing is."""
        if problem == self._problem:
            return
        self._problem = problem
        self.set_class(bool(problem), "-wrong")
        self._error.display = bool(problem)
        if problem and self.has_focus_within:
            self.call_after_refresh(self.scroll_visible, animate=False)
        self._error.update(f"{marks(self._ascii).wrong} {shown_text(problem, self._ascii)}" if problem else "")


class Form(Vertical):
    """A headed group of settings. Up and down go from one to the next."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "app.focus_previous", show=False),
        Binding("down", "app.focus_next", show=False),
    ]

    def __init__(self, draft: Draft, paths: Iterable[KeyPath], title: str = "", *, ascii: bool = False) -> None:
        super().__init__(classes="form")
        self._title = title
        self._rows = [SettingRow(draft, path, ascii=ascii) for path in paths]

    def compose(self) -> ComposeResult:
        if self._title:
            yield Static(self._title, classes="heading", markup=False)
        yield from self._rows


def tell_problems(root: Widget, problems: Sequence[Problem]) -> list[Problem]:
    """Shows each problem beside its setting below `root`, and takes back those that are mended; returns those without a row."""
    by_path: dict[KeyPath, str] = {}
    for problem in problems:
        by_path.setdefault(problem.path, problem.beside)
        # A mistake in an element of a list is shown at the list.
        if problem.path and isinstance(problem.path[-1], int):
            by_path.setdefault(problem.path[:-1], f"{dotted(problem.path[-1:])}: {problem.beside}")
    rows = list(root.query(SettingRow))
    for row in rows:
        row.tell(by_path.get(row.path, ""))
    shown = {row.path for row in rows}
    return [problem for problem in problems if problem.path not in shown and problem.path[:-1] not in shown]


def show_row(root: Widget, path: KeyPath, wanted: bool) -> None:
    """Shows a setting below `root` only where it says something."""
    for row in root.query(SettingRow):
        if row.path == path:
            row.display = wanted
