"""The wizard's frame: its steps, going from one to the next, leaving, saving and starting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Button, ContentSwitcher, Static
from textual.worker import Worker

from engine import paths
from engine.text import plain
from mmkd_tui.draft import Draft, Problem
from mmkd_tui.keys import bindings
from mmkd_tui.screens.ask import Answer, Ask, AskText
from mmkd_tui.screens.base import MmkdScreen
from mmkd_tui.screens.start import start_run
from mmkd_tui.starting import hindrance
from mmkd_tui.stock import Stock
from mmkd_tui.widgets.key_bar import KeyBar
from mmkd_tui.widgets.table import shown_text
from mmkd_tui.wizard.form import DraftChanged
from mmkd_tui.wizard.review import ReviewStep
from mmkd_tui.wizard.step import Bench, GoOn, Step
from mmkd_tui.wizard.steps import DatasetStep, HardwareStep, MethodStep, StudentStep
from mmkd_tui.wizard.teachers import TeachersStep

STEPS: tuple[type[Step], ...] = (DatasetStep, TeachersStep, StudentStep, MethodStep, HardwareStep, ReviewStep)
ALL_NAMED = sum(len(step.TITLE) + 5 for step in STEPS)  # columns that the names of all steps need


class StepTab(Static):
    """A step's name at the top; a click goes there."""

    def __init__(self, number: int, title: str) -> None:
        super().__init__("", classes="tab", markup=False)
        self.number, self._title = number, title

    def tell(self, here: bool, mark: str) -> None:
        """`mark`: whether it is done or something is wrong with it."""
        name = f"{self.number + 1} {self._title}" if here or self.app.size.width >= ALL_NAMED else f"{self.number + 1}"
        self.update(Content(f"[{name}]{mark} " if here else f" {name} {mark} "))
        self.set_class(here, "-here")

    def on_click(self) -> None:
        screen = self.screen
        if isinstance(screen, WizardScreen):
            screen.go(self.number)


class WizardScreen(MmkdScreen):
    """Edits a draft. `suggested`: where it is saved if its user does not say otherwise."""

    WHERE = "wizard"
    CSS_PATH = "wizard.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("wizard")]
    AUTO_FOCUS = None

    def __init__(
        self, draft: Draft, *, stock: Stock | None = None, title: str = "New experiment", suggested: Path | None = None
    ) -> None:
        super().__init__()
        self.draft = draft
        self._stock = stock
        self._title = title
        self._suggested = suggested
        self._at = 0
        self._problems: list[Problem] = []
        self._seen: set[int] = set()
        self._starting = False

    def compose(self) -> ComposeResult:
        app = self.mmkd
        root = app.data_root or paths.data_root()
        stock = self._stock if self._stock is not None else Stock.read(paths.teacher_store())
        self.bench = Bench(self.draft, stock, app.machine, root, app.ascii)
        self.steps = [kind(self.bench, id=f"step-{number}") for number, kind in enumerate(STEPS)]
        yield Static(shown_text(self._title, app.ascii), classes="title", markup=False)
        with Horizontal(id="tabs"):
            for number, kind in enumerate(STEPS):
                yield StepTab(number, kind.TITLE)
        yield ContentSwitcher(id="steps")
        with Horizontal(id="wizard-buttons"):
            yield Button(" Back ", id="back", compact=True)
            yield Button(" Next ", id="next", compact=True)
            yield Button(" Start ", id="start", variant="primary", compact=True)
            yield Button(" Save as preset ", id="save", compact=True)
            yield Static("", id="whole", markup=False)
        yield KeyBar(ascii=app.ascii)

    def on_mount(self) -> None:
        self.go(0)

    def on_resize(self) -> None:
        if self._seen:
            self.check()

    # -- going about

    def go(self, number: int) -> Worker[None]:
        """Goes to a step, from which the next key counts, and shows it as soon as that is possible."""
        self._at = number
        self._seen.add(number)
        return self._show(number)

    @work(group="go")
    async def _show(self, number: int) -> None:
        """A page is made when it is first seen."""
        step, switcher = self.steps[number], self.query_one(ContentSwitcher)
        if step.parent is None:
            step.display = False  # its user may have gone on when it is made
            await switcher.mount(step)
        if number != self._at or not step.is_mounted or self not in self.app.screen_stack or not self.is_attached:
            return  # its user has gone on, or left; or it is being made, and then shown by who makes it
        switcher.current = step.id
        step.entered()
        self.check()
        self.query_one("#back", Button).visible = number > 0
        last = number == len(self.steps) - 1
        for name in ("#next", "#start", "#save"):
            self.query_one(name, Button).display = last is not (name == "#next")
        (self.query_one("#start") if last else step.first).focus()
        self.refresh_bindings()

    def check(self) -> None:
        """Says everywhere what is wrong now."""
        self._problems = self.draft.problems()
        marks = self.bench.marks
        for tab in self.query(StepTab):
            mine = any(self.steps[tab.number].owns(problem) for problem in self._problems)
            seen = tab.number in self._seen
            wrong = mine and (seen or tab.number < self._at)
            # What one has not come to yet is no mistake.
            tab.tell(tab.number == self._at, marks.wrong if wrong else marks.done if seen and not mine else " ")
        step = self.steps[self._at]
        if step.is_mounted:
            step.tell(self._problems)
        count = len(self._problems)
        self.query_one("#whole", Static).update(
            f"{count} thing{'s' * (count != 1)} missing or wrong" if count else "ready to run"
        )

    @on(DraftChanged)
    def _changed(self, event: DraftChanged) -> None:
        event.stop()
        self.check()
        step = self.steps[self._at]
        if isinstance(step, HardwareStep | ReviewStep) and step.is_mounted:
            step.entered()

    @on(GoOn)
    def _go_on(self, event: GoOn) -> None:
        if event.step is self.steps[self._at]:  # not one that was left meanwhile
            self.action_next()

    def action_next(self) -> None:
        self.go(min(self._at + 1, len(self.steps) - 1))

    def action_back(self) -> None:
        self.go(max(self._at - 1, 0))

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        action = {"back": self.action_back, "next": self.action_next, "save": self.action_save, "start": self.action_start}
        if event.button.id in action:
            event.stop()
            action[event.button.id]()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """None where a key does nothing now, so that the footer does not offer it."""
        if action == "back" and self._at == 0:
            return None
        if action == "next" and self._at == len(STEPS) - 1:
            return None
        return True

    def action_cancel(self) -> None:
        """Back to the list; asks first where something would be lost."""
        self._drop_draft(self.app.pop_screen)

    def leave(self) -> None:
        """Out of the app; asks first where something would be lost."""
        self._drop_draft(lambda: self.app.exit(""))

    def _drop_draft(self, go: Callable[[], object]) -> None:
        if not self.draft.changed:
            go()
            return
        answers = [Answer("keep", "Go on planning"), Answer("drop", "Throw it away")]
        body = "What you changed is not saved. Ctrl+S saves it as a preset."

        def answered(answer: str | None) -> None:
            if answer == "drop":
                go()

        self.app.push_screen(Ask("Leave the wizard?", body, answers), answered)

    # -- saving and starting

    def _stands_up(self) -> bool:
        """Whether nothing is wrong; where something is, goes there."""
        problems = self.draft.problems()
        if not problems:
            return True
        step = next((n for n, step in enumerate(self.steps) if any(step.owns(problem) for problem in problems)), 0)
        self.go(step)
        self.notify(plain(problems[0].sentence, 300), title="Not ready yet", severity="error", markup=False)
        return False

    def action_save(self) -> None:
        """Asks where, and writes the preset there; a file that is there is not replaced without asking."""
        if not self._stands_up():
            return
        ask = AskText(
            "Save as preset",
            "A YAML file, which mmkd run FILE runs, too.",
            str(self._suggested or Path.cwd() / f"{self.draft.data['name']}.yaml"),
            wrong_target,
        )

        def answered(name: str | None) -> None:
            if name is None:
                return
            target = target_of(name)
            if not target.exists():
                self._write(target)
                return
            question = Ask("Replace the file?", f"{target} exists.", [Answer("no", "Keep it"), Answer("yes", "Replace it")])
            self.app.push_screen(question, lambda answer: self._write(target) if answer == "yes" else self.action_save())

        self.app.push_screen(ask, answered)

    def _write(self, target: Path) -> None:
        """Its paths begin in the folder that it lies in: where that is not the one they were typed in, they become absolute."""
        here = Path.cwd()
        try:
            text = self.draft.yaml(None if target.parent.resolve() == here.resolve() else here)
            assert text is not None
            paths.private_folder(target.parent)
            paths.write_whole(target, text)
        except OSError as error:
            self.notify(
                plain(f"{target} cannot be written: {error.strerror or error}; name another place", 400),
                title="Not saved",
                severity="error",
                markup=False,
            )
            return
        self._suggested = target
        self.draft.mark_saved()
        self.notify(plain(f"mmkd run {target}", 300), title="Saved", markup=False)

    def action_start(self) -> None:
        """Starts the run and shows it in place of the wizard."""
        preset = self.draft.preset() if self._stands_up() else None
        if preset is None or self._starting:
            return
        stop = hindrance(preset, self.bench.data_root)
        if stop:
            self.notify(plain(stop, 600), title="It cannot run here yet", severity="error", markup=False)
            return
        self._starting = True
        self._start()

    @work(exit_on_error=False, group="start")
    async def _start(self) -> None:
        preset = self.draft.preset()
        assert preset is not None
        app = self.mmkd
        try:
            # A run may be gone on with from anywhere.
            path = await start_run(app, preset.anchored(Path.cwd()), app.runs_dir, app.data_root)
        finally:
            self._starting = False
        if path is not None:
            while self in app.screen_stack:  # with what was opened above it meanwhile
                app.pop_screen()
            app.open_run(path)


def target_of(name: str) -> Path:
    """The file that a typed name means; `.yaml` is added where it has no ending."""
    path = Path(name.strip()).expanduser().absolute()
    return path if path.suffix else path.with_suffix(".yaml")


def wrong_target(name: str) -> str:
    """What is wrong with a typed name; "" where a file can be written there, as far as can be seen."""
    if not name.strip() or "\0" in name:
        return "give the path of a file, for example my-run.yaml"
    try:
        path = target_of(name)
        if Path(name.strip()).expanduser().is_dir() or path.is_dir():
            return f"{name.strip()} is a folder; give the path of a file in it"
        if path.suffix not in (".yaml", ".yml"):
            return "a preset's file ends in .yaml"
        if path.exists() and not path.is_file():
            return f"{path} is no regular file; name another"
    except (OSError, ValueError, RuntimeError) as error:
        return f"no file can have this name: {error}"
    return ""
