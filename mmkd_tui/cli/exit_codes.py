"""What the exit codes of `mmkd` mean."""

from __future__ import annotations

DONE = 0
FAILED = 1  # something went wrong that the user's command did not cause
USER_MISTAKE = 2  # what was asked for, or a file that was given, has to be changed
INTERRUPTED = 130  # Ctrl-C: 128 + SIGINT
