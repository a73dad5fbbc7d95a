"""A run as its folder tells it, for viewers: its state, its events as they come, wishes sent to it."""

from __future__ import annotations

import errno
import json
import os
import platform
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from engine.control import Command
from engine.errors import UserError
from engine.event_reader import EventReader
from engine.events import Event
from engine.result import result_from
from engine.run_dir import RunDir
from engine.run_state import PATIENCE, RunState, StateReader
from engine.untrusted import as_number, as_text, open_regular, read_object, read_tail

_TAIL = 1 << 18  # bytes of the console that are looked at


class Process(NamedTuple):
    """Of a run. The machine's name is untrusted."""

    pid: int
    machine: str
    gpu: str = ""  # the UUID of its GPU, where it has one and that is known; untrusted, too

    @property
    def here(self) -> bool:
        """Whether it is one of this machine's."""
        return self.machine == platform.node()


class RunClient(Protocol):
    """What a viewer needs of a run. The real one reads a folder; tests have one that plays events."""

    path: Path

    def poll(self) -> Sequence[Event]:
        """New events since the last call, whole lines only: at most 2,000 or 50 ms' worth; `caught_up` says if that is all."""
        ...

    def caught_up(self) -> bool:
        """Whether the last poll came to the end of what is written."""
        ...

    def state(self) -> RunState:
        """As of now."""
        ...

    def request(self, command: Command) -> str:
        """Sends a wish; its id comes back in an `acknowledged` event."""
        ...

    def result(self) -> Mapping[str, Any] | None:
        """`result.json`, once it is written."""
        ...

    def console_tail(self, lines: int = 200) -> Sequence[str]:
        """The end of `console.log`; what it says is untrusted."""
        ...

    def process(self) -> Process | None:
        """The process that owns the run, as `meta.json` has it; None where that does not say."""
        ...


class DirectoryClient:
    """`RunClient` over a run's folder. Nothing in the folder is trusted, and nothing needs to be there."""

    def __init__(self, path: Path, *, patience: float = PATIENCE, only_new: bool = False, metrics: bool = True) -> None:
        """`only_new`: events that are there already are passed over; without `metrics`, all of these are."""
        self.path = path
        self._dir = RunDir(path)
        self._events = EventReader(self._dir.events, only_new, metrics)
        self._state = StateReader(self._dir, patience)

    def poll(self) -> Sequence[Event]:
        """New events since the last call, at most 2,000 or 50 ms' worth; of a long backlog, not every `metrics`."""
        return self._events.poll()

    def caught_up(self) -> bool:
        """Whether the last poll came to the end of what is written."""
        return self._events.caught_up

    def state(self) -> RunState:
        """As of now."""
        return self._state.read()

    def request(self, command: Command) -> str:
        """Sends a wish; its id comes back in an `acknowledged` event. UserError where the folder cannot be written."""
        wish = {"id": uuid.uuid4().hex, "command": command, "t": time.time()}
        try:
            handle = open_regular(self._dir.control, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            # On a line of its own, whatever a full disk left of the one before it.
            line = b"\n" * (read_tail(self._dir.control, 1) not in (b"", b"\n")) + json.dumps(wish).encode() + b"\n"
            try:
                if os.write(handle, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(handle)
        except OSError as error:
            raise UserError(f"{self.path}: the run cannot be told to {command}: {error.strerror or error}") from error
        return str(wish["id"])

    def result(self) -> Mapping[str, Any] | None:
        """`result.json`, once it is written: every field of `Result`, of its type."""
        found = read_object(self._dir.result)
        return result_from(found) if found is not None else None

    def console_tail(self, lines: int = 200) -> Sequence[str]:
        """The end of `console.log`, at most 256 KB; what it says is untrusted."""
        tail = read_tail(self._dir.console, _TAIL)
        if len(tail) < _TAIL:  # it may have been begun anew
            tail = (read_tail(self._dir.console_before, _TAIL) + tail)[-_TAIL:]
        found = tail.decode(errors="replace").split("\n")
        if len(tail) == _TAIL:
            del found[0]  # its beginning was cut off
        if found and not found[-1]:
            del found[-1]
        return found[-lines:] if lines > 0 else []

    def process(self) -> Process | None:
        """The process that owns the run, as `meta.json` has it; None where that does not say."""
        meta = read_object(self._dir.meta) or {}
        pid = as_number(meta.get("pid"))
        return Process(int(pid), as_text(meta.get("host")), as_text(meta.get("gpu"))) if pid is not None and pid > 1 else None
