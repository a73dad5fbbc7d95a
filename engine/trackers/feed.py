"""Feeds trackers from a run's events, each on a thread of its own behind a bounded queue: none can hold up or end a run."""

from __future__ import annotations

import json
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.events import Averages, EpochEnded, Event, Metrics, RunStarted
from engine.paths import write_whole
from engine.preset import Preset
from engine.result import Result
from engine.run_dir import RunDir
from engine.text import one_line
from engine.trackers import Beginning, Opener
from engine.trackers.scalars import names_of, scalars, summary
from engine.untrusted import as_text, read_object

MOST = 1000  # events that wait for a tracker; what comes beyond is left out
EVERY = 2.0  # seconds between two `metrics` events of a phase that are passed on; every end of an epoch is
PATIENCE = 10.0  # seconds that a run that has ended waits for all of its trackers
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

Tell = Callable[[str, str], None]  # (level, message)


class Feed:
    """The listener of a run's events that passes them to the preset's trackers. Without any, it does nothing."""

    def __init__(self, preset: Preset, run_dir: RunDir, tell: Tell, openers: Mapping[str, Opener] | None = None) -> None:
        """`tell` is given each tracker's one warning, on that tracker's thread."""
        if openers is None:
            from engine.trackers.backends import OPENERS

            openers = OPENERS
        self._preset, self._dir, self._tell = preset, run_dir, tell
        self._lock, self._ended = threading.Lock(), False
        self._shown: dict[tuple[str, int], float] = {}
        self._lines = [_Line(name, openers[name], self) for name in dict.fromkeys(preset.trackers)]

    def __call__(self, event: Event) -> None:
        """Never waits."""
        if not self._lines or not isinstance(event, Averages | RunStarted):
            return
        if isinstance(event, Metrics):
            key, now = (event.phase, event.index), time.monotonic()
            if now - self._shown.get(key, -EVERY) < EVERY:
                return
            self._shown[key] = now
        for line in self._lines:
            line.put(event)

    def close(self, result: Result) -> None:
        """Passes the result on, and waits for all that waits, PATIENCE at most. A second time does nothing."""
        lines, self._lines = self._lines, []
        for line in lines:
            line.put(result)
        deadline = time.monotonic() + PATIENCE
        for line in lines:
            line.thread.join(max(deadline - time.monotonic(), 0))
            if line.thread.is_alive():
                self.warn(line.name, f"did not take all within {PATIENCE:.0f} s after the end; it is left")
        with self._lock:
            self._ended = True

    def warn(self, name: str, why: str) -> None:
        """Nothing more is said when the run has said its last word."""
        with self._lock:
            if not self._ended:
                self._tell("warning", f"tracker {name} {why}")

    def begin(self, name: str) -> Beginning:
        """What the tracker `name` is opened with."""
        from engine.overrides import flattened

        config = flattened(self._preset.model_dump(mode="json"))
        known = as_text((read_object(self._file) or {}).get(name)) or ""
        return Beginning(self._dir.path, self._dir.path.name, config, known if _ID.fullmatch(known) else None)

    def keep(self, name: str, id: str) -> None:
        """Keeps under which id a tracker knows this run, for a process that goes on with it."""
        with self._lock:
            write_whole(self._file, json.dumps((read_object(self._file) or {}) | {name: id}) + "\n")

    @property
    def _file(self) -> Path:
        return self._dir.path / "trackers.json"


class _Line:
    """A tracker, its queue and its thread."""

    def __init__(self, name: str, opener: Opener, feed: Feed) -> None:
        self.name, self._opener, self._feed = name, opener, feed
        self._queue: queue.Queue[Event | Result] = queue.Queue(MOST)
        self._broken = self._overrun = False
        self.thread = threading.Thread(target=self._work, name=f"mmkd-track-{name}", daemon=True)
        self.thread.start()

    def put(self, item: Event | Result) -> None:
        if self._broken:
            return
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            if isinstance(item, Result):  # the last word goes before what waits
                with self._queue.mutex:
                    self._queue.queue.clear()
                    self._queue.queue.append(item)
                    self._queue.not_empty.notify()
            elif not self._overrun:
                self._overrun = True
                self._feed.warn(self.name, "is slower than the run: some of its points are left out")

    def _work(self) -> None:
        try:
            self._follow()
        except BaseException as error:  # a library that ends the process must not end this one
            self._broken = True
            self._feed.warn(
                self.name, f"is left: {type(error).__name__}: {one_line(str(error), 300)}; the run goes on without it"
            )

    def _follow(self) -> None:
        begin = self._feed.begin(self.name)
        tracker = self._opener(begin)
        if tracker.id is not None and tracker.id != begin.id:
            self._feed.keep(self.name, tracker.id)
        teachers: tuple[str, ...] = ()
        while True:
            item = self._queue.get()
            if isinstance(item, Result):
                tracker.finish(summary(item), item.state)
                return
            if isinstance(item, RunStarted):
                teachers = names_of(item.teachers)
            elif isinstance(item, Metrics | EpochEnded) and (values := scalars(item, teachers)):
                tracker.log(values, item.step, item.t)
