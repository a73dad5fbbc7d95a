"""The folder that a run leaves: its layout, its lock, and the files in it that are written once.

preset.yaml        the resolved preset            engine.lock    held (flock) as long as the run's process lives
meta.json          versions, seeds, machine       events.jsonl   one event a line, one writer (event_writer.py)
heartbeat.json     a sign of life each second     control.jsonl  a person's wishes, one a line
console.log        what is said to people         checkpoints/   see checkpoint.py
console.log.1      what was in console.log before (console_file.py)
launcher.lock      of a run of several processes: held as long as the launcher lives, who starts them again
student.safetensors  the best student so far      result.json    written last: how it ended (result.py)
teachers/          those that the store did not take (teachers/shared_store.py)
trackers.json      under which ids trackers know the run; tensorboard/, wandb/: theirs (trackers/)
analysis.json      what student and teachers made of the test images (analysis.py)
"""

from __future__ import annotations

import json
import os
import platform
import re
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from engine import locks
from engine.errors import UserError
from engine.paths import private_folder, write_whole
from engine.untrusted import MOST, as_number, is_file_of, object_in, open_regular, read_object, read_regular, readable

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
NO_ROOM = "make room there, or name another place with --runs-dir"
CHECKPOINT = re.compile(r"(?P<phase>[a-z]+-\d+)-step-(?P<step>\d{1,12})")


class RunDir:
    """A run's folder and the paths in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.preset = path / "preset.yaml"
        self.meta = path / "meta.json"
        self.lock = path / "engine.lock"
        self.launcher = path / "launcher.lock"
        self.events = path / "events.jsonl"
        self.control = path / "control.jsonl"
        self.heartbeat = path / "heartbeat.json"
        self.console = path / "console.log"
        self.console_before = path / "console.log.1"
        self.checkpoints = path / "checkpoints"
        self.teachers = path / "teachers"
        self.student = path / "student.safetensors"
        self.analysis = path / "analysis.json"
        self.result = path / "result.json"

    @classmethod
    def create(cls, runs: Path, name: str) -> RunDir:
        """A new folder `runs/<time>-<name>`; a number is added where that exists."""
        stem = f"{datetime.now():%Y-%m-%dT%H%M%S}-{name}"
        for number in range(1, 1000):
            path = runs / (stem if number == 1 else f"{stem}-{number}")
            try:
                private_folder(runs)
                path.mkdir(mode=0o700)
            except FileExistsError:
                if not runs.is_dir():
                    raise UserError(f"{runs} is not a folder; name another one with --runs-dir") from None
                continue
            except OSError as error:
                raise UserError(
                    f"no run folder can be made in {runs}: {error.strerror}; name another place with --runs-dir"
                ) from error
            return cls(path)
        raise UserError(f"{runs} has a thousand runs of this second; name another place with --runs-dir")

    def is_empty(self) -> bool:
        """Whether nothing lies in it, or it is not there."""
        try:
            return not any(self.path.iterdir())
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def discard(self) -> None:
        """Takes away what a new run that could not begin has written, and its folder."""
        with suppress(OSError):
            for path in (self.preset, self.meta, self.events, self.console, self.lock, self.launcher):
                path.unlink(missing_ok=True)
            self.path.rmdir()

    def not_begun(self, error: OSError) -> UserError:
        """What to raise where a new run's process could not be started; nothing of the run is left."""
        self.discard()
        return UserError(f"{self.path}: the run cannot be started: {error.strerror or error}; {NO_ROOM}")

    def has_checkpoint(self) -> bool:
        """Whether there is one to go on from."""
        return any(CHECKPOINT.fullmatch(path.name) for path in self.checkpoints.glob("*"))

    def write_json(self, path: Path, content: dict[str, Any]) -> None:
        """A JSON file, whole or not at all."""
        write_whole(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


class Lock:
    """An exclusive lock on a run's folder, freed by the system when the process ends, however it ends.

    A process that starts another one can hand its lock on: the child inherits `handle`. The file names the machine.
    """

    def __init__(self, run_dir: RunDir, handle: int | None = None, *, of_launcher: bool = False) -> None:
        path = run_dir.launcher if of_launcher else run_dir.lock
        if handle is not None and not is_file_of(handle, path):
            raise UserError(f"the descriptor {handle} is not that of {path}; leave --lock out")
        self.handle = open_regular(path, os.O_RDWR | os.O_CREAT) if handle is None else handle
        os.set_inheritable(self.handle, False)
        busy = f"{run_dir.path} is in use by another process; stop it first, or name another folder"
        locks.take_or_refuse(self.handle, str(run_dir.path), busy)
        name = platform.node().encode()
        with suppress(OSError):  # on a full disk it is locked all the same
            os.pwrite(self.handle, name, 0)
            os.ftruncate(self.handle, len(name))
            os.fsync(self.handle)  # over a network, others would find no name for a while, and take the lock for one of theirs

    def release(self) -> None:
        """Lets another process have the folder. A second time does nothing."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1


def take_over(run_dir: RunDir) -> Lock:
    """The lock of a run that ended or crashed, to go on with it; its ending, last heartbeat, old wishes and
    half-written files are cleared away.

    UserError where there is no such run, where it is at work (InUseError), and where it is finished; UnreadableError where that
    cannot be told now; OSError where the folder cannot be written. Who raises holds no lock.
    """
    if not run_dir.preset.is_file():
        raise UserError(f"{run_dir.path} is no run's folder: it has no preset.yaml; mmkd runs list shows the runs")
    lock = Lock(run_dir)
    try:
        if _is_finished(run_dir):
            raise UserError(f"{run_dir.path} is finished; there is nothing to resume")
        for path in (run_dir.heartbeat, run_dir.control, run_dir.analysis, run_dir.result):
            path.unlink(missing_ok=True)
        for path in run_dir.path.glob(".*.partial"):  # what a process that was killed was still writing
            with suppress(OSError):
                path.unlink()
    except BaseException:  # a process that goes on would hold it until it ends
        lock.release()
        raise
    return lock


def begun_with(run_dir: RunDir) -> int:
    """How many ranks a run began with, as `meta.json` has it: its teachers are in the store by that."""
    known = as_number((read_object(run_dir.meta) or {}).get("ranks"))
    return min(max(int(known or 1), 1), 1 << 20)


def _is_finished(run_dir: RunDir) -> bool:
    try:
        with readable(run_dir.result):
            content = read_regular(run_dir.result, MOST)
    except OSError:
        return False
    return (object_in(content) or {}).get("state") == "done"
