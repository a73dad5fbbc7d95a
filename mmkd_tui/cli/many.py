"""Doing many runs from a command: what is looked at before, the signals that stop them, and a line on stderr for each change."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from engine.control import StopSignals, on_stop_signals
from engine.errors import UserError
from engine.text import one_line, plain
from mmkd_tui.cli.talk import say
from mmkd_tui.figures import percent

if TYPE_CHECKING:
    from engine.sweeps.executor import Executor, Job
    from engine.sweeps.form import HalvingPart
    from engine.sweeps.standing import Standing
    from engine.sweeps.work import Change, Work


def refuse_hindered(jobs: Sequence[Job], data_root: Path) -> None:
    """What would end runs at once is told before the first; those that are done have no need of anything."""
    from engine.run_state import RunState
    from engine.sweeps.executor import state_of
    from mmkd_tui.starting import hindrance

    presets = [job.preset for job in jobs if state_of(job.folder) is not RunState.FINISHED]

    for preset in {(preset.trackers, preset.dataset, preset.teachers): preset for preset in presets}.values():
        if stop := hindrance(preset, data_root):
            raise UserError(stop)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """The signals that asked to stop, as they come. A second request ends this at once; a lost terminal ends nothing."""
    stops: list[int] = []
    found = StopSignals()

    def on_signal(number: int, frame: FrameType | None) -> None:
        if found.take(number):
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        stops.append(number)

    with on_stop_signals(on_signal):
        yield stops


def do_all(
    labels: Sequence[str],
    jobs: Sequence[Job],
    executor: Executor,
    halving: HalvingPart | None,
    quiet: bool,
    standings: Sequence[Standing] | None = None,
) -> tuple[list[str], list[int]]:
    """Does the jobs, each called by its label; what failed, a line each, and the signals that stopped it all. `standings`: of the
    jobs, where somebody looks at them, too.
    """
    from engine.run_state import RunState
    from engine.sweeps.work import work_off

    teller = _Teller(labels, quiet)
    with stop_signals() as stops:
        works = work_off(jobs, executor, asked_to_stop=lambda: bool(stops), tell=teller, halving=halving, standings=standings)
    failures = [
        f"{teller.name(work)}: {work.ended.state}: {one_line(work.ended.message, 500)}; its log is {work.job.folder}/console.log"
        for work in works
        if work.ended is not None and work.ended.state is not RunState.FINISHED
    ]
    if failures and not stops:
        say(f"mmkd: {len(failures)} of {len(works)} runs are not done; the same command tries them again:")
        for line in failures:
            say(f"  {line}")
    return failures, stops


class _Teller:
    """Says what happens, a line for each change."""

    def __init__(self, labels: Sequence[str], quiet: bool) -> None:
        self.labels, self.quiet = labels, quiet
        self.best: tuple[float, str] | None = None

    def name(self, work: Work) -> str:
        """`run 3 of 12: lr=0.05, seed 0`"""
        return f"run {work.number} of {len(self.labels)}: {one_line(self.labels[work.number - 1])}, seed {work.job.preset.seed}"

    def __call__(self, work: Work, change: Change) -> None:
        standing, name = work.standing, self.name(work)
        if standing.best_accuracy is not None and (self.best is None or standing.best_accuracy > self.best[0]):
            self.best = (standing.best_accuracy, name)
        if change == "failed":
            message = one_line(work.ended.message if work.ended else "", 500)
            say(f"mmkd: {name}: failed: {message}; its log is {work.job.folder}/console.log")
            return
        if self.quiet:
            return
        if change == "busy":
            say(f"{name} waits: {work.busy}")
        elif change in ("started", "resumed", "waiting"):
            how = {"started": "begins", "resumed": "goes on", "waiting": "is at work already; waiting for it"}[change]
            say(f"{name}: {how} (mmkd attach {shlex.quote(plain(str(work.job.folder)))} shows it)")
        elif change == "held":
            say(f"{name}: held after epoch {standing.epoch}{_found(standing.best_accuracy)}: not among the best")
        else:
            say(f"{name}: {change}{_found(standing.best_accuracy)}{self._so_far()}")

    def _so_far(self) -> str:
        return "" if self.best is None else f"; best so far {percent(self.best[0])} ({self.best[1]})"


def _found(accuracy: float | None) -> str:
    return "" if accuracy is None else f", {percent(accuracy)}"
