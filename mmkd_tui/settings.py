"""What the terminal app remembers of its user's choices between two starts."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from engine.paths import private_folder, write_whole
from engine.untrusted import read_object

FILE = "settings.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """Each choice with its default."""

    theme: str = "textual-dark"
    runs_dir: str = ""  # where runs were last; "" where none were yet
    log_y: bool = False
    smoothing: bool = False
    log: bool = True


def usual_runs_dir() -> Path:
    """Where runs are if nobody says: in ./runs; where there is none, where they were last, if that is still there."""
    here, last = Path("runs"), load_settings().runs_dir
    return Path(last) if last and not here.is_dir() and Path(last).is_dir() else here


def settings_path() -> Path:
    """In the folder that MMKD_CONFIG names, else where the system keeps a user's configuration. RuntimeError: no home folder."""
    folder = os.environ.get("MMKD_CONFIG")
    return (Path(folder).expanduser() if folder else Path(platformdirs.user_config_dir("mmkd"))) / FILE


def load_settings() -> Settings:
    """What was saved. A file that is missing, broken or not ours gives defaults; so does a value of the wrong type."""
    try:
        found = read_object(settings_path(), follow=True)
    except RuntimeError:
        found = None
    if found is None:
        return Settings()
    default = Settings()
    fields = (field.name for field in dataclasses.fields(Settings))
    return Settings(**{name: found[name] for name in fields if type(found.get(name)) is type(getattr(default, name))})


class SettingsSaver:
    """Saves on a thread, so that nobody waits for a slow disk; of many wishes meanwhile, the newest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted: Settings | None = None
        self._thread: threading.Thread | None = None

    def save(self, settings: Settings) -> None:
        """Soon."""
        with self._lock:
            self._wanted = settings
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mmkd-settings")
                self._thread.start()

    def finish(self) -> None:
        """Waits until all is saved."""
        if (thread := self._thread) is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                settings, self._wanted = self._wanted, None
                if settings is None:
                    self._thread = None
                    return
            save_settings(settings)


def save_settings(settings: Settings) -> bool:
    """Writes them whole or not at all; False where that was not possible: no choice is worth an error."""
    try:
        private_folder(settings_path().parent)
        write_whole(settings_path(), json.dumps(dataclasses.asdict(settings), indent=2) + "\n")
    except (OSError, UnicodeError, RuntimeError):
        return False
    return True
