"""Does many runs: those that are not done, as many at once as the executor takes; stops those that are not worth going on with.

All that is decided is decided from the runs' folders, so that whoever does the same runs again goes on where they stand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine import paths
from engine.errors import InUseError, UserError
from engine.gpu_lock import GpuBusyError, busy_in
from engine.run_client import DirectoryClient
from engine.run_state import RunState
from engine.sweeps.executor import SILENT, Ended, Executor, Exit, Job, ending, write_down
from engine.sweeps.form import HalvingPart
from engine.sweeps.halving import by_promise, worthy
from engine.sweeps.standing import Standing, networks_of
from engine.text import plain
from engine.untrusted import is_there

TICK = 0.25  # seconds between two looks
AGAIN = 30.0  # seconds until a run that found its GPU in use is begun once more: to find out takes it some of them itself
INSIST = 5.0  # seconds until a run that is to stop is asked once more: a wish that comes before it reads any is lost

Change = Literal["waiting", "busy", "started", "resumed", "done", "held", "stopped", "failed"]
Tell = Callable[["Work", Change], None]


@dataclass(eq=False, slots=True)
class Work:
    """A job, and how it stands."""

    job: Job
    standing: Standing
    number: int  # in the plan, from 1
    handle: Any = None  # the executor's, while it is submitted
    elsewhere: bool = False  # another process has it, and it is waited for
    exit: Exit | None = None  # its process has ended; what it left is being looked at
    asked: bool = False  # to stop
    wished: float = 0.0  # when it was last asked to stop by its folder, by the monotonic clock
    busy: str = ""  # why it could not begin when its turn came: which GPU is in use, and by whom
    rests: float = 0.0  # until then it is not begun, by the monotonic clock
    cleared: int = 0  # rungs that it may go on from, whoever reaches them later
    held: bool = False  # stopped at a rung by the rule; it may be gone on with
    ended: Ended | None = None  # as far as this command is concerned
    networks: frozenset[str] = frozenset()  # what it trains unless the store has it

    @property
    def active(self) -> bool:
        """Submitted, or at work elsewhere."""
        return self.handle is not None or self.elsewhere

    @property
    def waiting(self) -> bool:
        """For its turn."""
        return not self.active and not self.held and self.ended is None


@dataclass(slots=True)
class _Desk:
    works: list[Work]
    executor: Executor
    halving: HalvingPart | None
    tell: Tell
    store: Path
    stopping: bool = False
    busy: set[str] = field(default_factory=set)  # what was told of GPUs that other runs have


def work_off(
    jobs: Sequence[Job],
    executor: Executor,
    *,
    asked_to_stop: Callable[[], bool] = lambda: False,
    tell: Tell = lambda work, change: None,
    halving: HalvingPart | None = None,
    store: Path | None = None,
    standings: Sequence[Standing] | None = None,
) -> list[Work]:
    """Does the jobs and waits for their end; each is then `ended`, or `held` by the rule. Ones that are done are passed over,
    ones that are at work already are waited for, all others are begun or gone on with. Folders are written before any begins.

    Runs that want the same untrained network begin one after the other: the first trains it, the others find it in `store`.
    When `asked_to_stop` turns true, nothing more is begun, and what is at work is asked to save and stop. What goes wrong with
    one run is in its `ended`; nothing is raised for it. UserError where the folders cannot be written. `standings`: of the jobs,
    where somebody looks at them, too.
    """
    works = []
    for number, job in enumerate(jobs, start=1):
        rungs = halving.rungs(job.preset.train.epochs) if halving is not None else ()
        standing = Standing(job.folder, rungs, halving) if standings is None else standings[number - 1]
        works.append(Work(job, standing, number, networks=networks_of(job.preset)))
    desk = _Desk(works, executor, halving, tell, store or paths.teacher_store())
    for work in works:
        _take_stock(desk, work)
    _hold_unworthy(desk)
    while True:
        if asked_to_stop() and not desk.stopping:
            desk.stopping = True
            for work in works:
                _ask_to_stop(desk, work)
        for work in works:
            if work.active:
                _look(desk, work)
        if not desk.stopping:
            _stop_unworthy(desk)
            _begin_some(desk)
        unsettled = any(work.active or (work.waiting and not desk.stopping) for work in works)
        if not unsettled and (desk.stopping or _next(desk) is None):
            return works
        time.sleep(TICK)


def _take_stock(desk: _Desk, work: Work) -> None:
    """How a run stands before anything is done."""
    standing = work.standing
    standing.look()
    if standing.state is RunState.FINISHED:
        work.ended = Ended(RunState.FINISHED)
    elif standing.state is not None and standing.state.responding:
        work.elsewhere = True
        desk.tell(work, "waiting")
    elif standing.state is None:
        try:
            write_down(work.job)
        except OSError as error:
            where = plain(str(work.job.folder))
            raise UserError(f"{where} cannot be written: {error.strerror or error}; name another place with --runs") from error


def _hold_unworthy(desk: _Desk) -> None:
    """A run that was stopped at a rung stays there until it is among the best."""
    fit = _worthy(desk)
    for work in desk.works:
        work.held = work.standing.state is RunState.STOPPED and bool(work.standing.scores) and work not in fit


def _worthy(desk: _Desk) -> frozenset[Work]:
    if desk.halving is None:
        return frozenset(desk.works)
    return worthy({work: work.standing.scores for work in desk.works}, desk.halving.eta)


def _look(desk: _Desk, work: Work) -> None:
    """Whether a run has ended, and how."""
    if work.handle is not None and work.exit is None:
        work.exit = desk.executor.poll(work.handle)
    work.standing.look()
    state = work.standing.state
    live = state is not None and state.responding
    if (work.exit is None and work.handle is not None) or live:
        if desk.stopping and live and time.monotonic() - work.wished > INSIST:
            _wish_stop(work)
        return
    ended = ending(work.job.folder, work.exit)
    if work.elsewhere and state is RunState.NOT_RESPONDING:
        ended = Ended(RunState.NOT_RESPONDING, SILENT)
    elif work.elsewhere and ended.state is RunState.CRASHED and not desk.stopping:
        work.elsewhere = False  # whoever had it has gone: its turn comes again
        return
    by_rule = work.asked and not desk.stopping and ended.state is RunState.STOPPED
    work.handle, work.exit, work.elsewhere, work.asked = None, None, False, False
    if ended.refused_by_gpu and not desk.stopping:  # another run was quicker: its turn comes again
        work.rests = time.monotonic() + AGAIN
        _tell_busy(desk, work, ended.message)
        return
    if by_rule:
        work.held = True
        desk.tell(work, "held")
        return
    if desk.stopping and (state is None or ended.state is RunState.STOPPED):
        ended = Ended(RunState.STOPPED)
    work.ended = ended
    change: Change = {RunState.FINISHED: "done", RunState.STOPPED: "stopped"}.get(ended.state, "failed")  # type: ignore[assignment]
    desk.tell(work, change)


def _stop_unworthy(desk: _Desk) -> None:
    if desk.halving is None:
        return
    fit = _worthy(desk)
    for work in desk.works:
        if not work.active or work.asked or work.exit is not None or len(work.standing.scores) == work.cleared:
            continue
        if work in fit:
            work.cleared = len(work.standing.scores)
        else:
            work.asked = True
            _wish_stop(work)


def _wish_stop(work: Work) -> None:
    work.wished = time.monotonic()
    try:
        DirectoryClient(work.job.folder).request("stop")
    except UserError:
        work.asked = False  # a full disk, say: asked again at the next look


def _ask_to_stop(desk: _Desk, work: Work) -> None:
    if work.handle is not None:
        try:
            desk.executor.cancel(work.handle)
        except (UserError, OSError):
            return  # a full disk, say: its folder is asked at the next look
        work.wished = time.monotonic()
    elif work.elsewhere:
        _wish_stop(work)


def _begin_some(desk: _Desk) -> None:
    """Submits as much as there is room for: first what has shown promise, then what comes next in the plan."""
    while sum(work.active for work in desk.works) < desk.executor.capacity:
        work = _next(desk)
        if work is None or not _begin(desk, work):
            return


def _next(desk: _Desk) -> Work | None:
    fit, busy = _worthy(desk), _being_trained(desk)
    scores = {work: work.standing.scores for work in desk.works}
    for work in by_promise(scores):
        if work.held and work in fit:
            return work
    now = time.monotonic()
    ready = (work for work in desk.works if work.waiting and work.rests <= now and not (work.networks & busy))
    if (following := next(ready, None)) is not None:
        return following
    unsettled = any(work.active or work.waiting for work in desk.works)
    if desk.halving is None or unsettled or any(_is_done(work) for work in desk.works):
        return None
    # Nobody else will reach these rungs, and floor(n / eta) of few is none: the best one goes on, so that one comes to the end.
    return next((work for work in by_promise(scores) if work.held), None)


def _is_done(work: Work) -> bool:
    return work.ended is not None and work.ended.state is RunState.FINISHED


def _being_trained(desk: _Desk) -> set[str]:
    """Networks that runs at work are training, or are about to."""
    return {
        key
        for work in desk.works
        if work.active and work.standing.phase in ("", "teacher", "alone")
        for key in work.networks
        if not _is_kept(desk.store / key / "facts.json")
    }


def _is_kept(path: Path) -> bool:
    """What nobody here may look at is there, too: who wants it is told so by its run, and need not wait for another."""
    try:
        return is_there(path)
    except OSError:
        return True


def _begin(desk: _Desk, work: Work) -> bool:
    """Whether there may be room for another one."""
    begun = work.standing.state is not None
    try:
        work.handle = desk.executor.submit(work.job)
    except GpuBusyError as error:  # everything stays as it is
        _tell_busy(desk, work, str(error))
        return False
    except InUseError:
        work.held, work.elsewhere = False, True
        desk.tell(work, "waiting")
        return True
    except (UserError, OSError) as error:
        work.held, work.ended = False, Ended(RunState.FAILED, str(error))
        desk.tell(work, "failed")
        return True
    work.held = work.asked = False
    work.cleared = len(work.standing.scores)
    work.standing.phase = ""
    desk.tell(work, "resumed" if begun else "started")
    return True


def _tell_busy(desk: _Desk, work: Work, why: str) -> None:
    """Once of each run that has a GPU which we want, for it may take hours."""
    work.busy = busy_in(why)
    if work.busy not in desk.busy:
        desk.busy.add(work.busy)
        desk.tell(work, "busy")
