"""The benchmark: MMKD written naively, the engine's own forms of it, and the limits, timed in one process side by side."""

import engine.openmp  # noqa: F401  before torch
