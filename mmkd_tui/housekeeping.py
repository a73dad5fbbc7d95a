"""Garbage collection between key presses: a full one in the middle of an answer would hold it up by a tenth of a second."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

CALM = 0.25  # seconds without a key after which there is time
PATIENCE = 10.0  # seconds after which it is done all the same
NEVER = 1_000_000  # the interpreter's own full collections


class Housekeeper:
    """Takes over the full collections from the interpreter. Small ones stay its own: they take a millisecond."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """What is there now, modules and classes above all, lives as long as the process: it is never looked at again."""
        self._clock = clock
        gc.collect()
        gc.freeze()
        first, second, _ = gc.get_threshold()
        gc.set_threshold(first, second, NEVER)
        self._touched = self._tidied = clock()

    def touched(self) -> None:
        """Somebody is at the keys."""
        self._touched = self._clock()

    def tidy(self) -> None:
        """To be called now and then, when there is nothing else to do."""
        now = self._clock()
        if now - self._touched >= CALM or now - self._tidied >= PATIENCE:
            gc.collect()
            self._tidied = now
