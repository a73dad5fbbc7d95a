"""What the terminal app remembers of its user's choices between two starts."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from engine.paths import write_whole

FILE = "settings.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """Each choice with its default."""

    theme: str = "textual-dark"
    runs_dir: str = ""  # where the last run was looked for; "" where none was yet
    log_y: bool = False
    smoothing: bool = False
    log: bool = True


def settings_path() -> Path:
    """In the folder that MMKD_CONFIG names, else where the system keeps a user's configuration."""
    folder = os.environ.get("MMKD_CONFIG")
    return (Path(folder).expanduser() if folder else Path(platformdirs.user_config_dir("mmkd"))) / FILE


def load_settings() -> Settings:
    """What was saved. A file that is missing, broken or not ours gives defaults; so does a value of the wrong type."""
    try:
        found: Any = json.loads(settings_path().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return Settings()
    if not isinstance(found, dict):
        return Settings()
    default = Settings()
    fields = (field.name for field in dataclasses.fields(Settings))
    return Settings(**{name: found[name] for name in fields if type(found.get(name)) is type(getattr(default, name))})


def save_settings(settings: Settings) -> bool:
    """Writes them whole or not at all; False where that was not possible: no choice is worth an error."""
    try:
        write_whole(settings_path(), json.dumps(dataclasses.asdict(settings), indent=2) + "\n")
    except (OSError, UnicodeError):
        return False
    return True
