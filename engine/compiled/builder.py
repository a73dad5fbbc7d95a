"""Where compiled functions come from: another process that fills a folder, watched without ever waiting for it."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from engine import locks
from engine.compiled.build import REQUEST
from engine.compiled.flat import Function, load
from engine.compiled.request import Request
from engine.paths import private_folder, write_whole

LOOK_EVERY = 1.0  # seconds
PATIENCE = 3.0  # seconds in which a compiler that is told to end should have ended
LOG = "compile.log"
MACHINE_CODE = "TORCHINDUCTOR_CACHE_DIR"


class Builder:
    """Compiles a request in a process of its own, or finds what another run compiled.

    `take` never waits; what is ready is loaded on a thread. Two runs that want the same folder do not both compile: the second
    takes up what the first leaves.
    """

    def __init__(self, request: Request) -> None:
        self.folder = request.folder()
        self.request = request
        _keep_machine_code(self.folder.parent / f"inductor-{_instructions()}")
        self.began = time.monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._loaded: dict[str, Function | Exception] = {}
        self._loading: set[str] = set()
        self._looked = 0.0

    def ready(self, part: str) -> bool:
        """Whether it needs no compiling."""
        return (self.folder / f"{part}.bin").exists()

    def start(self) -> None:
        """Begins to compile, unless somebody does. OSError where that cannot be done."""
        for folder in (self.folder, Path(os.environ[MACHINE_CODE])):
            private_folder(folder)
        self._lock = locks.taken(self.folder / "lock", looks=1)
        if self._lock is None:
            return
        write_whole(self.folder / REQUEST, self.request.to_json())
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with (self.folder / LOG).open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "engine.compiled.build", str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=Path(__file__).parents[2],
                process_group=0,  # out of reach of Ctrl-C, and in this session: between sessions niceness may not count
            )

    def take(self, part: str) -> Function | Exception | None:
        """The compiled function, once it is here; why there will be none; None as long as neither is known."""
        if part in self._loaded:
            return self._loaded[part]
        if part in self._loading or time.monotonic() - self._looked < LOOK_EVERY:
            return None
        self._looked = time.monotonic()
        if self.ready(part):
            self._loading.add(part)
            threading.Thread(target=self._load, args=(part,), name="mmkd-load", daemon=True).start()
        elif self._process is not None and (code := self._process.poll()) is not None and not self.ready(part):
            self._loaded[part] = RuntimeError(f"the compiler ended with {code}, see {self.folder / LOG}")
        return None

    def _load(self, part: str) -> None:
        path = self.folder / f"{part}.bin"
        try:
            private_folder(Path(os.environ[MACHINE_CODE]))
            self._loaded[part] = load(path)
        except Exception as error:
            # Of another release, or damaged: the next run compiles it anew.
            path.unlink(missing_ok=True)
            self._loaded[part] = error

    def close(self) -> None:
        """Ends the compiling; what it has finished stays."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _keep_machine_code(folder: Path) -> None:
    """Tells PyTorch where: what is loaded is source that a compiler has yet to translate, unless the other process has, here.

    Not PyTorch's own folder, a name in /tmp that anybody may have taken; another one that the user names is left alone.
    """
    given = Path(os.environ.get(MACHINE_CODE, folder))
    pytorchs = given.parent == Path(tempfile.gettempdir()) and given.name.startswith("torchinductor_")
    if pytorchs or given.name == folder.name:
        os.environ[MACHINE_CODE] = str(folder)


@cache
def _instructions() -> str:
    """A digest of what the processor can do: machine code is made for that, and a home may be shared by unlike machines."""
    said = platform.machine() + platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        said += next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(said.encode()).hexdigest()[:8]
