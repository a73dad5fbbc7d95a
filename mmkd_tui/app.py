"""The terminal app: what its screens share, and the way in and out."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

# Read by Textual when it is imported. A frame is drawn only where something has changed; it waits for its turn, so that a key's
# answer does, too: up to a 60th of a second. Animations would only make it later.
os.environ.setdefault("TEXTUAL_FPS", "60")
os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")

from textual import events
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.command import CommandPalette
from textual.screen import Screen
from textual.theme import ThemeProvider

from engine.errors import UserError
from engine.run_client import DirectoryClient, RunClient
from engine.sweeps.manifest import is_sweep
from mmkd_tui import LEAST_COLUMNS, LEAST_ROWS
from mmkd_tui.housekeeping import Housekeeper
from mmkd_tui.keys import bindings, keys_of
from mmkd_tui.machine import Machine, this_machine
from mmkd_tui.screens.base import MmkdScreen
from mmkd_tui.screens.help import HelpScreen
from mmkd_tui.settings import Settings, SettingsSaver, load_settings
from mmkd_tui.widgets.glyphs import prefers_ascii
from mmkd_tui.widgets.lines import escaped
from mmkd_tui.widgets.scrollbars import use_scrollbars

if TYPE_CHECKING:
    from rich.console import RenderableType
    from textual.actions import ActionParseResult

    from mmkd_tui.draft import Draft

TERMINAL_CHECK = 5.0  # seconds
SETTLED = 1.0  # seconds after the start: what there is then, stays
TIDY_EVERY = 0.25  # seconds
LEAVE = next(key for key in keys_of("app") if key.id == "leave").keys.split(",")


class MmkdApp(App[str]):
    """The app. Its result is what the normal screen says afterwards; "" for nothing."""

    TITLE = "mmkd"
    CSS_PATH = Path(__file__).with_name("mmkd.tcss")
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("app")]
    HORIZONTAL_BREAKPOINTS = [(0, "-too-narrow"), (LEAST_COLUMNS, "-narrow"), (100, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-too-low"), (LEAST_ROWS, "-low"), (24, "-short"), (30, "-tall"), (40, "-high")]  # noqa: RUF012

    def __init__(
        self,
        *,
        runs_dir: Path,
        open_run: Path | None = None,
        client: RunClient | None = None,
        ascii: bool = False,
        theme: str | None = None,
        data_root: Path | None = None,
        machine: Machine | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`open_run`: the folder of a run, or of a sweep, to begin with. `client`: a run to show that is in no folder (a
        demonstration). `machine`: what estimates are for, by default this one. `now`: seconds since the epoch.
        """
        super().__init__()
        self.runs_dir = runs_dir
        self.data_root = data_root
        self.now = now
        self._machine = machine
        self.ascii = ascii
        self.set_class(ascii, "-ascii")
        use_scrollbars(ascii)
        self.settings = load_settings()
        self._open_run = open_run
        self._client = client
        self._housekeeper: Housekeeper | None = None
        self._saver = SettingsSaver()
        self._left = False  # the app is being left
        if theme is not None and theme not in self.available_themes:
            raise UserError(f"there is no theme {theme}; choose one of {', '.join(sorted(self.available_themes))}")
        wanted = theme or self.settings.theme
        self.theme = wanted if wanted in self.available_themes else Settings().theme

    @property
    def machine(self) -> Machine:
        """What a run would have to train with."""
        return self._machine or this_machine()

    def remember(self, **choices: object) -> None:
        """Saves choices (fields of `Settings`) for the next start; on a thread: no key waits for a slow disk."""
        self.settings = dataclasses.replace(self.settings, **choices)  # type: ignore[arg-type]
        self._saver.save(self.settings)

    def on_unmount(self) -> None:
        self._saver.finish()

    def on_mount(self) -> None:
        if self._client is None and self.runs_dir.is_dir():
            self._remember_folder()
        if not self.is_headless:
            self.set_interval(TERMINAL_CHECK, self._leave_if_terminal_is_gone)
            self.set_timer(SETTLED, self._keep_house)
        if self._client is not None:
            self.push_screen(self._dashboard(self._client))
        elif self._open_run is not None and is_sweep(self._open_run):
            self.push_screen(self._sweep(self._open_run))
        elif self._open_run is not None:
            self.push_screen(self._dashboard(DirectoryClient(self._open_run)))
        else:
            self.push_screen(self._home())

    def open_run(self, path: Path) -> None:
        """Shows a run's dashboard on top of the screen in hand."""
        self._remember_folder()
        self.push_screen(self._dashboard(DirectoryClient(path)))

    def open_sweep(self, path: Path) -> None:
        """Shows a sweep on top of the screen in hand."""
        self._remember_folder()
        self.push_screen(self._sweep(path))

    def open_wizard(self, draft: Draft, **details: Any) -> None:
        """Shows the wizard on top of the screen in hand; `details` as it takes them."""
        from mmkd_tui.wizard.screen import WizardScreen

        self.push_screen(WizardScreen(draft, **details))

    def _remember_folder(self) -> None:
        if (folder := str(self.runs_dir.absolute())) != self.settings.runs_dir:
            self.remember(runs_dir=folder)

    def go_home(self) -> None:
        """From a dashboard to the presets and runs."""
        if len(self.screen_stack) > 2:  # the app's own first screen, home, this
            self.pop_screen()
        else:
            self.switch_screen(self._home())

    def _dashboard(self, client: RunClient) -> Screen[None]:
        from mmkd_tui.screens.dashboard import DashboardScreen

        return DashboardScreen(client)

    def _sweep(self, path: Path) -> Screen[None]:
        from mmkd_tui.screens.sweep import SweepScreen

        return SweepScreen(path)

    def _home(self) -> Screen[None]:
        from mmkd_tui.screens.home import HomeScreen

        return HomeScreen()

    async def action_quit(self) -> None:
        """Leaves; a dashboard may have a question first."""
        for screen in reversed(self.screen_stack):
            if leave := getattr(screen, "leave", None):
                leave()
                return
        self.exit("")

    def exit(self, result: str | None = None, return_code: int = 0, message: RenderableType | None = None) -> None:
        self._left = True
        super().exit(result, return_code, message)

    async def run_action(self, action: str | ActionParseResult, *where: Any, **more: Any) -> bool:
        """As Textual's; keys that were typed ahead do nothing once the app is being left: what they show has no place then."""
        return self._left or await super().run_action(action, *where, **more)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """It sleeps only where a shell could wake it: one with job control, which makes a process group of each job."""
        return action != "suspend_process" or (not self.is_headless and os.getpgrp() != os.getsid(0))

    def action_suspend_process(self) -> None:
        """With all of its job: the shell would go on waiting for a wrapper that started it."""
        with self.suspend():
            handler = signal.signal(signal.SIGCONT, signal.SIG_DFL)  # it might take the screen a second time
            os.killpg(0, signal.SIGSTOP)
            signal.signal(signal.SIGCONT, handler)

    def action_help(self) -> None:
        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(getattr(self.screen, "WHERE", ""), self.ascii))

    def action_command_palette(self) -> None:
        if not isinstance(self.screen, CommandPalette):
            self.push_screen(CommandPalette(placeholder="What do you want to do?", id="--command-palette"))

    def search_themes(self) -> None:
        self.push_screen(CommandPalette(providers=[ThemeProvider], placeholder="Which colours?"))

    def notify(self, message: str, *, title: str = "", **options: Any) -> None:
        """As Textual's; in ASCII where all else is."""
        super().notify(escaped(message, self.ascii), title=escaped(title, self.ascii), **options)

    def watch_theme(self, theme: str) -> None:
        if self.is_running and theme != self.settings.theme:
            self.remember(theme=theme)

    def _keep_house(self) -> None:
        """From now on, garbage is collected when nobody is waiting."""
        self._housekeeper = Housekeeper()
        self.set_interval(TIDY_EVERY, self._housekeeper.tidy)

    async def on_event(self, event: events.Event) -> None:
        if self._housekeeper is not None and isinstance(event, events.InputEvent):
            self._housekeeper.touched()
        if (
            isinstance(event, events.Key)
            and event.key not in LEAVE
            and isinstance(self.screen, MmkdScreen)
            and self.screen.too_small
        ):
            return  # nobody sees what else it would do
        await super().on_event(event)

    def _leave_if_terminal_is_gone(self) -> None:
        """For drops that bring no SIGHUP; nothing of worth is in this process."""
        if not os.isatty(0):
            os._exit(0)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: what this screen's keys do now."""
        where = getattr(screen, "WHERE", "")
        for key in keys_of(where, "app"):
            target = screen if key.where == where else self
            if key.palette and target.check_action(key.action, ()):
                yield SystemCommand(key.label, key.description, lambda t=target, a=key.action: t.run_action(a))


def run_app(
    *,
    runs_dir: Path,
    open_run: Path | None = None,
    ascii: bool | None = None,
    theme: str | None = None,
    mouse: bool = True,
    data_root: Path | None = None,
) -> str | None:
    """Runs the app until its user leaves; the line for the normal screen says how to come back, or is empty. None where the
    app has crashed, which it has told.
    """
    if ascii is None:
        ascii = prefers_ascii(os.environ, getattr(sys.stdout, "encoding", None))
    app = MmkdApp(runs_dir=runs_dir, open_run=open_run, ascii=ascii, theme=theme, data_root=data_root)
    message = app.run(mouse=mouse)
    return None if app.return_code else message or ""
