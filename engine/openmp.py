"""Lets waiting threads sleep: imported before torch by the processes that train.

By default OpenMP's threads spin while they wait for each other. On a machine that does something else beside, a thread that is
not running is waited for by one that burns the processor it needs: two threads then train several times slower than one.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
