"""A decoder that crashes at one picture; in a module that a decoding process imports quickly."""

from __future__ import annotations

import os
import signal

from engine.pictures import Decoded, Job
from engine.pictures import decode_all as real


def decode_all(job: Job) -> Decoded:
    """Dies at pictures named 003."""
    if any("003" in path for path in job.paths):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(job)
