"""One run at a time on a GPU, unless somebody wants it otherwise: a lock for each GPU, held as long as the run's process works.

A GPU belongs to a machine and not to a folder of runs, so its lock lies in the user's cache, under the machine's name (a home may
be shared by several): two runs find each other from whatever folders they are started. Under Slurm the names of GPUs are a job's
own, so the folder has its number, too. The system frees the lock when the process ends, however it ends. Who shares a GPU by wish
takes a further lock of it, so that the next one is told, too.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from engine import locks, paths
from engine.errors import UserError
from engine.text import plain
from engine.untrusted import read_tail

MOST = 16  # runs that share a GPU by wish


class GpuBusyError(UserError):
    """Another run is at work on the GPU."""

    def __init__(self, gpu: str, holder: str) -> None:
        self.gpu, self.holder = gpu, plain(holder, 300) or "another run"
        super().__init__(
            f"GPU {gpu} is in use by {self.holder}; wait for its end, name another --device, or share the GPU with --force"
        )


def busy_in(message: str) -> str:
    """Which GPU is in use and by whom, as the message of a GpuBusyError has it; "" of any other message."""
    found = re.match(r"(GPU [A-Za-z0-9-]+ is in use by .*); wait for its end, name another --device", message)
    return found[1] if found else ""


def gpu_of(device: str, environment: Mapping[str, str] = os.environ) -> str | None:
    """The GPU behind a device's name, as the driver names it; None where there is none behind it.

    `cuda:1` is the second of those in CUDA_VISIBLE_DEVICES. `auto` is the first GPU, in case there is one.
    """
    found = re.fullmatch(r"(?:cuda(?::(\d{1,3}))?|auto)", device)
    if found is None:
        return None
    index = int(found[1] or 0)
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return str(index)
    names = [name.strip() for name in visible.split(",")]
    return re.sub(r"[^A-Za-z0-9-]", "", names[index])[:64] or None if index < len(names) else None


class GpuLock:
    """Held until `release`, or until the process ends."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    @classmethod
    def take(cls, gpu: str, run: Path, *, share: bool = False) -> GpuLock:
        """For a run's folder. GpuBusyError where another run has the GPU and `share` does not say that this is all right;
        OSError where no lock can be had in our cache, which need not keep a run from its work.
        """
        if not share:
            _refuse(gpu)
        for path in _paths(gpu):
            paths.private_folder(path.parent)
            handle = locks.taken(path, looks=1 if share else locks.LOOKS)
            if handle is None:
                if not share:
                    raise GpuBusyError(gpu, _holder(path))
                continue
            with suppress(OSError):  # of a full disk: who holds it is not told, then
                os.ftruncate(handle, 0)
                os.pwrite(handle, os.fsencode(run.absolute()), 0)
            return cls(handle)
        raise UserError(f"{MOST} runs share GPU {gpu} already; wait for the end of one")

    def release(self) -> None:
        """A second time does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def refuse_if_busy(device: str, environment: Mapping[str, str] = os.environ, processes: int = 1) -> None:
    """GpuBusyError where a run has the GPU of this device now, or one of the first `processes` GPUs: for those who want to know
    before they make anything.
    """
    together = processes > 1 and device in ("auto", "cuda")
    for name in [f"cuda:{number}" for number in range(processes)] if together else [device]:
        if (gpu := gpu_of(name, environment)) is not None:
            _refuse(gpu)


def _refuse(gpu: str) -> None:
    for path in _paths(gpu):
        if locks.held(path):  # where our cache is of no use for locks, nobody can be told of
            raise GpuBusyError(gpu, _holder(path))


def _paths(gpu: str) -> Iterator[Path]:
    machine, job = (re.sub(r"[^A-Za-z0-9.-]", "", name)[:128] for name in (platform.node(), os.environ.get("SLURM_JOB_ID", "")))
    folder = paths.cache_dir() / "locks" / ((machine or "here") + f"-job{job}" * bool(job))
    return (folder / (f"gpu{gpu}.lock" if number == 1 else f"gpu{gpu}-{number}.lock") for number in range(1, MOST + 1))


def _holder(path: Path) -> str:
    return read_tail(path, 4096).decode(errors="replace")
