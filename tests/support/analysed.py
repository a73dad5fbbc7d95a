"""A run's analysis, made up: K teachers, C classes, the most of everything that the file may hold."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from engine.analysis import (
    BINS,
    HARDEST,
    PAIRS,
    SHOWN,
    Agreement,
    Analysis,
    Confusion,
    Guess,
    HardImage,
    Mistake,
    Pair,
    Trust,
)  # fmt: skip


def made_up(classes: int, teachers: int, *, side: int = 8) -> Analysis:
    """The student takes class 1 for class 0 three times, its teachers never; image n is of class n, and hard."""
    shown = tuple(range(min(classes, SHOWN)))
    right = tuple(tuple(10 if a == b else 0 for b in shown) for a in shown)
    own = tuple(
        tuple(7 if a == b == 1 else 3 if (a, b) == (1, 0) else n for b, n in zip(shown, line, strict=True))
        for a, line in zip(shown, right, strict=True)
    )
    equal = (1 / teachers,) * teachers if teachers else ()
    missed = Mistake(1, 0, 3, (2,) * teachers)
    pairs = tuple(Pair(1, 0, 3, 0 if teachers else None, (1,) * teachers) for _ in range(PAIRS))
    agreement = Agreement(10 * len(shown) - 3, 3, 0, 0, (missed,), ()) if teachers else None
    trust = Trust(equal, equal, equal, (None,) * teachers, equal, ((1,) * BINS,) * teachers, 0.975, 0.97) if teachers else None
    draws = np.random.default_rng(0)
    hardest = tuple(
        HardImage(
            n, n % classes, 5.0 - n / 10, Guess(0, 0.9, 0.01), Guess(0, 0.5, 0.3) if teachers else None,
            tuple(Guess(k % classes, 0.6, 0.2, (k + 1) / 20 % 1, None) for k in range(teachers)), png(draws, side),
        )
        for n in range(HARDEST)
    )  # fmt: skip
    confusion = Confusion(shown, own, right if teachers else None, (right,) * teachers)
    return Analysis(10 * len(shown), classes, teachers, confusion, pairs, agreement, trust, hardest)


def png(draws: np.random.Generator, side: int) -> bytes:
    """Noise, which no compression makes smaller."""
    file = io.BytesIO()
    Image.fromarray(draws.integers(0, 256, (side, side, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()
