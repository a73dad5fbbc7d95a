"""What this process may take of the machine: its cores, and the limits that its control groups set to memory and processor time.

A container sees its own group at the root of what is mounted; a job of Slurm's, or what systemd limits, is somewhere below it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import NamedTuple

MEMINFO = Path("/proc/meminfo")
ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
_ENDLESS = 1 << 60  # bytes; version 1 says "no limit" by a number near 2**63


def usable_cores() -> int:
    """Cores that this process may use: those that it may run on, or fewer where its time is limited (`docker --cpus`)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min([cores, *(ceil(share) for share in _shares())]), 1)


class Memory(NamedTuple):
    """Bytes that this process may take: the machine's, or a control group's where those are fewer."""

    total: int
    free: int | None  # or held by files that are only cached; None where the system does not tell


def memory() -> Memory:
    """As it is now."""
    told = _meminfo()
    total, limit = machine_memory(), memory_limit()
    free = [size for size in (told.get("MemAvailable"), memory_left()) if size is not None]
    return Memory(total if limit is None else min(total, limit), min(free, default=None))


def machine_memory() -> int:
    """Bytes of the whole machine, or of what a container shows as one."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(physical, _meminfo().get("MemTotal", physical))


def memory_limit() -> int | None:
    """Bytes that this process's control groups allow it and those that share them; None where there is no limit."""
    return min((limit for _, limit in _limited()), default=None)


def memory_left() -> int | None:
    """Bytes that may still be taken before a control group is full, cached files given up; None where there is no limit."""
    left = []
    for group, limit in _limited():
        for used, kept in (("memory.current", "inactive_file"), ("memory.usage_in_bytes", "total_inactive_file")):
            with suppress(OSError, ValueError):
                taken = int((group / used).read_text())
                words = dict(line.split(" ", 1) for line in (group / "memory.stat").read_text().splitlines())
                left.append(limit - taken + int(words.get(kept, 0)))
    return max(min(left), 0) if left else None


def _meminfo() -> dict[str, int]:
    """Sizes in bytes, by their names."""
    found = {}
    with suppress(OSError):
        for line in MEMINFO.read_text(encoding="ascii", errors="replace").splitlines():
            with suppress(ValueError):  # not a size in kB
                name, size, _ = line.split()
                found[name.removesuffix(":")] = int(size) * 1024
    return found


def _limited() -> Iterator[tuple[Path, int]]:
    for group in _groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # there is none of this version, or it says "max"
                if (limit := int((group / name).read_text())) < _ENDLESS:
                    yield group, limit


def _shares() -> Iterator[float]:
    """Limits of processor time, in cores."""
    for group in _groups("cpu"):
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = (group / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        with suppress(OSError, ValueError, ZeroDivisionError):
            if (micros := int((group / "cpu.cfs_quota_us").read_text())) > 0:  # -1: none
                yield micros / int((group / "cpu.cfs_period_us").read_text())


def _groups(controller: str) -> Iterator[Path]:
    """This process's groups of a controller, in both versions, from the innermost to the outermost that can be seen."""
    places = [(ROOT, "/")]
    with suppress(OSError):
        for line in OWN.read_text(errors="replace").splitlines():
            _, _, rest = line.partition(":")
            names, _, path = rest.partition(":")
            if not names:
                places.append((ROOT, path))
            elif controller in names.split(","):
                places.append((ROOT / controller, path))
    seen = set()
    for base, path in places:
        # Where a container's own group is what is mounted, the path may be the host's, or lead out of it: the root is all then.
        inside = base.joinpath(*(part for part in path.split("/") if part not in ("", ".", "..")))
        for group in (inside, *inside.parents):
            if group not in seen and group.is_relative_to(base):
                seen.add(group)
                yield group
