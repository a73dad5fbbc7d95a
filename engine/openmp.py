"""Lets waiting threads spin for a moment, then sleep: imported before torch by the processes that train.

By default libgomp's threads spin for milliseconds while they wait for each other. On a machine that does something else beside, a
thread that is not running is waited for by one that burns the processor it needs: two threads then train many times slower.
If they sleep at once, a machine that does nothing else has to wake them thousands of times a step, which on a virtual one takes
up to half of the time. A thousand turns, some tens of microseconds, cost little on either (`benchmarks/waiting.py`).
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # for runtimes other than libgomp
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
