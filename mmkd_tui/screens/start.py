"""Starting a run from a screen: what is in the way is asked about or told, and the run's folder comes back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from textual.app import App

from engine.errors import UserError
from engine.gpu_lock import GpuBusyError
from engine.preset import Preset
from engine.spawning import spawn
from engine.text import plain
from mmkd_tui.screens.questions import START, busy_question


async def start_run(app: App[Any], preset: Preset, runs_dir: Path, data_root: Path | None) -> Path | None:
    """For a worker. None where it was not started: its user knows why then."""
    force = False
    while True:
        try:
            return await asyncio.to_thread(spawn, preset, runs_dir, data_root=data_root, force=force)
        except GpuBusyError as error:
            if await app.push_screen_wait(busy_question(error)) != START:
                return None
            force = True
        except (UserError, OSError) as error:
            app.notify(plain(str(error), 600), title="Not started", severity="error", markup=False)
            return None
