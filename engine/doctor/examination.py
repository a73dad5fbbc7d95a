"""Everything that is looked at, in the order in which it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from engine.doctor import devices, places, session, software
from engine.doctor.finding import Finding
from engine.text import one_line


def examine(runs: Path, data_root: Path) -> Iterator[Finding]:
    """Looks at one thing after another; what cannot be looked at is a problem of its own, and ends nothing."""
    looks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("software", software.findings),
        ("devices", devices.findings),
        ("data", lambda: places.data_findings(data_root)),
        ("places", lambda: places.folder_findings(runs, data_root)),
        ("session", session.findings),
    )
    for section, look in looks:
        try:
            yield from look()
        except Exception as error:
            what = f"{type(error).__name__}: {one_line(str(error), 300)}"
            yield Finding(section, "examination", f"broke off: {what}", "problem", "please report it")
