"""Processes that decode pictures ahead of the training; one that dies is replaced, and their number changes no result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import Connection, Pipe
from typing import cast

from engine.control_group import usable_cores
from engine.errors import TrainingError
from engine.pictures import Decoded, Job, decode_all

PIECE = 16  # pictures that a process decodes at a time
DEATHS = 3  # processes that the same pictures may cost
SERVER = "engine.pictures"  # whose `serve` a process runs
# Unlike a process of multiprocessing's, it does not run the caller's script anew to come where the caller is.
_CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {} import serve; serve(int(sys.argv[2]))"


def chosen_workers(asked: int | None) -> int:
    """What `hardware.workers` means on this machine."""
    return min(max(usable_cores() - 1, 1), 16) if asked is None else asked


class Decoders:
    """Decodes jobs in `workers` processes, begun when they are first needed; in the caller's own where there are none.

    A thread waits for each process, which answers through a pipe of its own: whatever it dies in the middle of, the others
    go on. (In `ProcessPoolExecutor` all answer through one pipe, and one that dies in mid-answer stops them for good.)
    """

    def __init__(self, workers: int, say: Callable[[str], None]) -> None:
        self.workers, self._say = workers, say
        self._threads: ThreadPoolExecutor | None = None
        self._processes = [_Process() for _ in range(workers)]
        self._free = self._processes.copy()
        self._died: deque[None] = deque()  # an entry for each process that did, until people are told

    def in_order(self, batches: Iterable[Sequence[Job]], size: int) -> Iterator[list[Decoded]]:
        """What comes of each batch of jobs, of `size` pictures together, in their order.

        TrainingError where a batch cannot be decoded because the processes die again and again, or cannot be started; AwayError
        where a picture cannot be read now.
        """
        if not self.workers:
            for batch in batches:
                yield [decode_all(job) for job in batch]
            return
        ahead = max(2, -(-4 * self.workers * PIECE // size))
        source = iter(batches)
        waiting: deque[list[Future[Decoded]]] = deque()
        try:
            while True:
                for batch in islice(source, ahead - len(waiting)):
                    waiting.append([self._submit(job) for job in batch])
                if not waiting:
                    return
                found = [future.result() for future in waiting.popleft()]
                while self._died:
                    self._died.pop()
                    self._say("a process that decodes pictures died; another is started in its place, and nothing is lost")
                yield found
        finally:
            for futures in waiting:
                for future in futures:
                    future.cancel()

    def close(self) -> None:
        """Ends the processes; they are begun anew where they are needed again."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)  # waits at most as long as a piece takes
            self._threads = None
        for process in self._processes:
            process.end()

    def _submit(self, job: Job) -> Future[Decoded]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.workers, "mmkd-decode")
        return self._threads.submit(self._decode, job)

    def _decode(self, job: Job) -> Decoded:
        process = self._free.pop()  # there are as many as threads
        try:
            for _ in range(DEATHS):
                try:
                    return process.ask(job)
                except _DiedError:
                    self._died.append(None)
            raise TrainingError(_culprit(job, process))
        finally:
            self._free.append(process)


def _culprit(job: Job, process: _Process) -> str:
    """Which picture it is that processes die of, if it is one."""
    for place, path in enumerate(job.paths):
        alone = replace(job, paths=(path,), draws=job.draws and job.draws[place : place + 1], spans=job.spans[place : place + 1])
        try:
            process.ask(alone)
        except _DiedError:
            where = os.path.join(job.root, path)  # noqa: PTH118
            return f"processes that decode {where} die of it; remove that picture, or look whether memory runs out"
    return (
        f"the processes that decode pictures ({job.paths[0]} to {job.paths[-1]} in {job.root}) die again and again: something "
        "ends them from outside, or memory runs out; give fewer hardware.workers (0: the training decodes)"
    )


class _DiedError(Exception):
    """A process that decodes is no more."""


class _Process:
    """Begun when it is asked, and anew where it died. One thread at a time may ask it."""

    def __init__(self) -> None:
        self._running: tuple[subprocess.Popen[bytes], Connection] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._running is None else self._running[0].pid

    def ask(self, job: Job) -> Decoded:
        """What came of it. _DiedError where the process did; TrainingError where none can be started."""
        try:
            self._running = self._running or self._start()
        except OSError as error:
            raise TrainingError(
                f"a process that decodes pictures cannot be started: {error.strerror or error}; make room for it, or give fewer "
                "hardware.workers (0: the training decodes)"
            ) from error
        pipe = self._running[1]
        try:
            pipe.send(job)
            answer = pipe.recv()
        except (OSError, EOFError) as error:
            self.end()
            raise _DiedError from error
        if isinstance(answer, Exception):
            raise answer
        return cast("Decoded", answer)

    def _start(self) -> tuple[subprocess.Popen[bytes], Connection]:
        ours, theirs = Pipe()
        with theirs:  # closed at once, else its end would not be seen
            try:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _CODE.format(SERVER), json.dumps(sys.path), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # Ctrl-C and a lost terminal are for the training to mind
                )
            except BaseException:
                ours.close()
                raise
        return process, ours

    def end(self) -> None:
        """At once: nobody waits for what it has in hand."""
        if self._running is not None:
            process, pipe = self._running
            self._running = None
            pipe.close()
            process.kill()
            process.wait()
