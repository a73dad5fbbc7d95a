"""The runs in a folder: listed from their small files, found by name, deleted."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from engine.errors import PresetError, UserError
from engine.events import RunStarted, from_line
from engine.paths import HOUR, REMOVED, delete, delete_leftovers, inside, put_aside
from engine.preset_yaml import load_recorded
from engine.run_dir import Lock, RunDir
from engine.run_state import RunState, StateReader, other_machine
from engine.text import plain
from engine.untrusted import as_moment, as_number, as_share, as_text, open_regular, read_object

_FIRST_LINE = 1 << 18  # bytes


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of a list of runs; read from small files and the first line of `events.jsonl`, so that a long list is quick."""

    path: Path
    name: str  # the preset's
    method: str
    student: str
    started: float | None  # seconds since the epoch
    state: RunState
    share: float | None  # of the phase in hand, 0..1
    phase: str
    student_accuracy: float | None
    student_alone_accuracy: float | None
    size: int  # bytes on disk
    ended: float | None = None  # seconds since the epoch: the last thing that its process wrote; None while it is live
    only_teachers: bool = False  # it trains teachers alone: method and student are but its preset's
    seed: int | None = None
    changed: tuple[str, ...] = ()  # as `settings_given`


_ended: dict[Path, tuple[object, RunSummary]] = {}  # with what their results' files were like


def list_runs(runs: Path, *, strict: bool = False) -> list[RunSummary]:
    """All runs in a folder, the newest first; what is no run is passed over. Who lists them again and again reads those that
    ended once. `strict`: UserError where it is no folder that may be read; else there are no runs, then.
    """
    try:
        found = [_summary_again(path) for path in _folders(runs)]
    except UserError:
        if strict:
            raise
        return []
    return sorted(found, key=lambda run: (run.started or 0.0, run.path.name), reverse=True)


def _summary_again(path: Path) -> RunSummary:
    place = path.absolute()
    try:
        found = RunDir(path).result.stat()
    except OSError:
        _ended.pop(place, None)
        return summary(path)
    stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
    if (known := _ended.get(place)) is None or known[0] != stamp or known[1].path != path:
        known = _ended[place] = (stamp, summary(path))
        if known[1].state.live:
            del _ended[place]
    return known[1]


def summary(path: Path) -> RunSummary:
    """What a list says of one run. Its files may be missing, or say anything."""
    run_dir = RunDir(path)
    state = StateReader(run_dir).read()
    beat = read_object(run_dir.heartbeat) or {}
    result = read_object(run_dir.result) or {}
    name, method, student, started, only_teachers, seed = _identity(run_dir)
    steps = as_number(beat.get("steps"))
    share = (as_number(beat.get("step")) or 0.0) / steps if steps else None
    return RunSummary(
        path=path,
        name=name,
        method=method,
        student=student,
        started=started,
        state=state,
        share=1.0 if state is RunState.FINISHED else as_share(share),
        phase=as_text(beat.get("phase")),
        student_accuracy=as_share(result.get("student_accuracy")),
        student_alone_accuracy=as_share(result.get("student_alone_accuracy")),
        size=size_of(path),
        ended=None if state.live else _last_written(run_dir),
        only_teachers=only_teachers,
        seed=seed,
        changed=settings_given(path),
    )


def settings_given(path: Path) -> tuple[str, ...]:
    """The `KEY=VALUE` that `--set` had on the command line that began a run."""
    meta = read_object(RunDir(path).meta) or {}
    words = meta.get("begun_by", meta.get("argv"))
    told = [as_text(word) for word in words] if isinstance(words, list) else []
    apart = [after for word, after in itertools.pairwise(told) if word == "--set"]
    return (*apart, *(word.removeprefix("--set=") for word in told if word.startswith("--set=")))


def outdated(runs: Sequence[RunSummary], age: float, *, keep_best: bool = False, now: float | None = None) -> list[RunSummary]:
    """Those that ended more than `age` seconds ago, the oldest first; none that is live.

    With `keep_best`, of the finished runs of each preset's name (whatever their age) the most accurate one is not among them.
    """
    before = (time.time() if now is None else now) - age
    best: dict[str, RunSummary] = {}
    for run in runs:
        known = best.get(run.name)
        if run.student_accuracy is not None and (known is None or run.student_accuracy > (known.student_accuracy or 0.0)):
            best[run.name] = run
    kept = {run.path for run in best.values()} if keep_best else set()
    old = [run for run in runs if not run.state.live and run.ended is not None and run.ended < before and run.path not in kept]
    return sorted(old, key=lambda run: run.ended or 0.0)


def find_run(runs: Path, name: str | None, live: bool = False) -> Path:
    """A run by its folder's name, a unique part of it, or a path; None: the newest one.

    With `live`, None is the newest live one, and a part of a name is looked for among the live ones first. UserError where there
    is none.
    """
    if name is None:
        found = [run.path for run in list_runs(runs, strict=True) if run.state.live or not live]
        if not found:
            what = "no live run" if live else "no run"
            raise UserError(f"there is {what} in {plain(str(runs))}; mmkd runs list shows all, --runs-dir names another folder")
        return found[0]
    return _named(runs, name, live, lambda: _folders(runs))


def find_runs(runs: Path, names: Sequence[str]) -> list[Path]:
    """As `find_run`, of each; the folder is listed once at most."""
    listed = cache(lambda: _folders(runs))
    return [_named(runs, name, False, listed) for name in names]


def _named(runs: Path, name: str, live: bool, listed: Callable[[], list[Path]]) -> Path:
    if name and name == Path(name).name and not name.startswith(".") and is_run(runs / name):
        return runs / name
    path = Path(name).expanduser()
    if is_run(path):
        return path
    found = [path for path in listed() if name and name in path.name]
    if live and len(found) > 1:
        found = [path for path in found if StateReader(RunDir(path)).read().live] or found
    if len(found) == 1:
        return found[0]
    shown = plain(name, 100)
    if not found:
        raise UserError(f"there is no run '{shown}' in {plain(str(runs))}; mmkd runs list shows them")
    some = ", ".join(plain(path.name) for path in sorted(found, reverse=True)[:5])
    raise UserError(f"{len(found)} runs in {plain(str(runs))} have '{shown}' in their names ({some}); give more of the name")


def remove_run(path: Path) -> None:
    """Deletes a run's folder; of a link to one, only the link. UserError where a process is at work on it."""
    run_dir = RunDir(path)
    delete_leftovers(path.parent, REMOVED, HOUR)
    try:
        if path.is_symlink():
            path.unlink()
            return
        if (state := StateReader(run_dir).read()).live:
            raise UserError(f"{plain(path.name)} is live ({state}); {how_to_end(path, state)}")
        lock = Lock(run_dir)
        try:
            gone = put_aside(path)
        finally:
            lock.release()  # before its file goes: NFS would keep that under another name, and the folder with it
        delete(gone)
    except OSError as error:
        raise UserError(f"{plain(str(path))} cannot be removed: {error.strerror or error}") from error


def how_to_end(path: Path, state: RunState) -> str:
    """What has a live run end, so that it can be removed."""
    name = plain(path.name)
    if state is RunState.NOT_RESPONDING and (machine := other_machine(path)):
        taken = f"if {machine}, where it was at work, is gone for good, mmkd resume {name} --force takes it over, and then "
        return f"{taken}mmkd stop {name} stops it"
    return f"mmkd stop {name} stops it"


def is_run(path: Path) -> bool:
    """Whether a folder is a run's: it has events, or a preset and the lock that its process took before it wrote that."""
    try:
        return (path / "events.jsonl").is_file() or ((path / "preset.yaml").is_file() and (path / "engine.lock").is_file())
    except (OSError, ValueError):  # no file can have such a name
        return False


def size_of(path: Path) -> int:
    """Bytes of all files below a folder; links are not followed."""
    total, folders = 0, [os.fspath(path)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


def _last_written(run_dir: RunDir) -> float | None:
    """By the files' times, which no clock inside the files can contradict."""
    times = []
    for path in (run_dir.result, run_dir.heartbeat, run_dir.events, run_dir.preset):
        with suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times, default=None)


def _folders(runs: Path) -> list[Path]:
    """UserError where it is no folder that may be read."""
    return [path for path in inside(runs, "--runs-dir") if is_run(path)]


def _identity(run_dir: RunDir) -> tuple[str, str, str, float | None, bool, int | None]:
    """Name, method, student, start, whether it trains teachers alone, seed: from the first event; before that is there, the
    preset.
    """
    try:
        with os.fdopen(open_regular(run_dir.events), "rb") as file:
            first: Any = from_line(file.readline(_FIRST_LINE).decode(errors="replace"))
    except OSError:
        first = None
    if isinstance(first, RunStarted):
        return first.name, first.method, first.student, first.t, first.only_teachers, first.seed
    try:
        started = as_moment(run_dir.preset.stat().st_mtime)
        preset = load_recorded(run_dir.preset)
    except (OSError, PresetError):
        return run_dir.path.name, "", "", None, False, None
    return preset.name, preset.method.name, preset.student.arch, started, preset.only_teachers, preset.seed
