"""Processes that decode pictures ahead of the training; one that dies is replaced, and their number changes no result."""

from __future__ import annotations

import errno
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from itertools import islice

from engine.errors import TrainingError
from engine.pictures import Decoded, Job, decode_all, follow_parent

PIECE = 16  # pictures that a process decodes at a time
# A pool that breaks in the moment in which it starts a process closes what that was to inherit; its fork server dies of it, too.
_BROKEN = (errno.EBADF, errno.EPIPE, errno.ECONNREFUSED, errno.ECONNRESET)
DEATHS = 3  # times that the processes are started anew for the same batch


def chosen_workers(asked: int | None) -> int:
    """What `hardware.workers` means on this machine."""
    return min(max(len(os.sched_getaffinity(0)) - 1, 1), 16) if asked is None else asked


class Decoders:
    """Decodes jobs in `workers` processes, begun when they are first needed; in the caller's own where there are none."""

    def __init__(self, workers: int, say: Callable[[str], None]) -> None:
        self.workers, self._say = workers, say
        self._pool: ProcessPoolExecutor | None = None

    def in_order(self, batches: Iterable[Sequence[Job]], size: int) -> Iterator[list[Decoded]]:
        """What comes of each batch of jobs, of `size` pictures together, in their order.

        TrainingError where a batch cannot be decoded because the processes die again and again.
        """
        if not self.workers:
            for batch in batches:
                yield [decode_all(job) for job in batch]
            return
        ahead = max(2, -(-4 * self.workers * PIECE // size))
        source = iter(batches)
        waiting: deque[tuple[Sequence[Job], list[Future[Decoded]]]] = deque()
        deaths = 0
        try:
            while True:
                try:
                    waiting.extend((batch, []) for batch in islice(source, ahead - len(waiting)))
                    if not waiting:
                        return
                    for batch, futures in waiting:
                        if not futures:
                            futures.extend(self._submit(batch))
                    found = [future.result() for future in waiting[0][1]]
                except (BrokenProcessPool, CancelledError):
                    deaths += 1
                    self._end()
                    if deaths > DEATHS:
                        raise TrainingError(self._culprit(waiting[0][0])) from None
                    self._say("a process that decodes pictures died; others are started in its place, and nothing is lost")
                    for _, futures in waiting:
                        futures.clear()
                    continue
                deaths = 0
                waiting.popleft()
                yield found
        finally:
            for _, futures in waiting:
                for future in futures:
                    future.cancel()

    def _submit(self, batch: Sequence[Job]) -> list[Future[Decoded]]:
        if self._pool is None:
            # Neither this process's threads nor its hold on a GPU are in those of a fork server.
            context = multiprocessing.get_context("forkserver")
            self._pool = ProcessPoolExecutor(self.workers, context, follow_parent)
        try:
            return [self._pool.submit(decode_all, job) for job in batch]
        except (OSError, EOFError) as error:
            if isinstance(error, OSError) and error.errno not in _BROKEN:
                raise
            raise BrokenProcessPool(str(error)) from error

    def _culprit(self, batch: Sequence[Job]) -> str:
        """Which picture it is that processes die of, if it is one."""
        for job in batch:
            for place, path in enumerate(job.paths):
                alone = replace(job, paths=(path,), draws=job.draws and job.draws[:1], spans=job.spans[place : place + 1])
                try:
                    self._submit([alone])[0].result()
                except BrokenProcessPool:
                    self._end()
                    where = os.path.join(job.root, path)  # noqa: PTH118
                    return f"processes that decode {where} die of it; remove that picture, or look whether memory runs out"
        self.close()
        names = f"{batch[0].paths[0]} to {batch[-1].paths[-1]} in {batch[0].root}"
        return (
            f"the processes that decode pictures ({names}) die again and again: something ends them from outside, or memory "
            "runs out; give fewer hardware.workers (0: the training decodes)"
        )

    def _end(self) -> None:
        """Of a pool that is broken: it waits for all its processes, and has told none to end that it was just starting."""
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
        self.close()

    def close(self) -> None:
        """Ends the processes; they are begun anew where they are needed again."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)  # at most as long as a piece takes
            self._pool = None
