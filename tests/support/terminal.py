"""A real pseudo-terminal with mmkd in it, and a reader that may be told to stop reading."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path

_ESCAPES = re.compile(r"\x1b(\[[0-9;?<>=]*[ -/]*[@-~]|\].*?(\x07|\x1b\\)|[()][A-Z0-9]|P.*?\x1b\\|.)", re.DOTALL)


class Terminal:
    """`mmkd` with some arguments in a terminal of its own, or with `shell` a shell in which it can be typed; everything written
    is read on a thread, unless `reading` is False.
    """

    MMKD = (sys.executable, "-m", "mmkd_tui")

    def __init__(self, *arguments: str, size: tuple[int, int] = (100, 30), shell: bool = False) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "", "LC_ALL": "C.UTF-8"}
            for name in ("COLUMNS", "LINES"):  # of another terminal
                environment.pop(name, None)
            words = ["/bin/sh", "-i"] if shell else [*self.MMKD, *arguments]
            os.execve(words[0], words, environment)
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
        self.reading = True
        self.status: int | None = None
        self._seen: list[str] = []  # as it was read: one long text would be copied whole at each read
        self._raw: list[bytes] = []
        self._closed = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        while not self._closed.is_set():
            if not self.reading:
                time.sleep(0.05)
                continue
            with contextlib.suppress(OSError, ValueError):
                if select.select([self.fd], [], [], 0.1)[0]:
                    self._raw.append(os.read(self.fd, 65536))
                    self._seen.append(decoder.decode(self._raw[-1]))

    def mark(self) -> int:
        """A place in what was written, to look for text after it."""
        return len(self._seen)

    def forget(self) -> None:
        """What was written so far, and every mark."""
        self._seen.clear()

    def text(self, since: int = 0) -> str:
        """What was written since `mark`, without escape sequences; a screen that is updated in part is there in part."""
        return _ESCAPES.sub("", "".join(self._seen[since:]))

    def raw(self) -> bytes:
        """All that was written, with its escape sequences."""
        return b"".join(self._raw)

    def wait(self, *texts: str, since: int = 0, seconds: float = 60) -> None:
        """Until every text has been written."""
        wait_until(lambda: all(text in self.text(since) for text in texts), seconds, lambda: self.text(since)[-3000:])

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def hang_up(self) -> None:
        """Closes the terminal, as a lost connection does."""
        self._closed.set()
        time.sleep(0.2)  # the reader lets go of it
        os.close(self.fd)

    def gone(self) -> bool:
        """Whether the process has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is not None

    def end(self) -> None:
        """For a test's end."""
        self._closed.set()
        if not self.gone():
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        with contextlib.suppress(OSError):
            os.close(self.fd)


def wait_until(test: Callable[[], object], seconds: float = 60, told: Callable[[], str] = str) -> None:
    """Until `test` holds; fails with what `told` says when it does not in time."""
    deadline = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < deadline, f"not within {seconds} s: {told()}"
        time.sleep(0.05)


def last_step(run: Path) -> int:
    """The newest training step that the run's events tell of."""
    steps = re.findall(r'"step":(\d+)', (run / "events.jsonl").read_text()) if (run / "events.jsonl").exists() else []
    return int(steps[-1]) if steps else 0
