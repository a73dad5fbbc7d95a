"""A batch cut into a slice for each thread, for what treats every sample alone.

Threads that share the work of every operation wait for each other after each. Slices meet once, at the end: small teachers
take some three fifths of the time, large ones nine tenths (`benchmarks/teachers_pass.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Barrier

import torch
from torch import Tensor

PATIENCE = 60.0  # seconds for all threads to begin: where one cannot, the others must not wait for ever

Said = Callable[[Tensor], Sequence[Tensor]]  # [B, ...] -> tensors with B rows each


def slices_of(images: Tensor) -> int:
    """How many slices a batch is cut into: as many as this thread has threads, where they come out alike, and else one."""
    threads = torch.get_num_threads()
    return threads if images.device.type == "cpu" and len(images) % threads == 0 else 1


class Slices:
    """Threads that compute with one OpenMP thread each, started by the first batch that is cut."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._count = 0

    def __call__(self, function: Said, images: Tensor, count: int) -> list[Tensor]:
        """What `function` says of `images`, given `count` slices of them. Its first error is raised once all have ended."""
        if count == 1:
            return list(function(images))
        if count != self._count:
            self._start(count)
        assert self._pool is not None
        futures = [self._pool.submit(function, part) for part in images.chunk(count)]
        wait(futures)
        return [torch.cat(rows) for rows in zip(*(future.result() for future in futures), strict=True)]

    def _start(self, count: int) -> None:
        self.close()
        threads, met = torch.get_num_threads(), Barrier(count, timeout=PATIENCE)

        def begin() -> None:
            torch.set_num_threads(1)
            torch.get_num_threads()  # the first question fixes a thread's number
            met.wait()  # so that each of the first `count` tasks gets a thread of its own

        self._pool, self._count = ThreadPoolExecutor(count, "mmkd-slice", begin), count
        wait([self._pool.submit(int) for _ in range(count)])
        torch.set_num_threads(threads)  # PyTorch keeps the last wish for threads yet to come, too

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.shutdown()
        self._pool, self._count = None, 0
