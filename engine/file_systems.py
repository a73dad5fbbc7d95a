"""What kind of file system a path lies on: over a network some calls are slow, and what is written is seen elsewhere later."""

from __future__ import annotations

import re
from pathlib import Path

NETWORK = {"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "lustre", "gpfs", "beegfs"}


def on_network(path: Path) -> bool:
    """Whether other machines may have the file system of a path, too."""
    return file_system(path) in NETWORK


def file_system(path: Path) -> str:
    """Of the mount that a path lies on, whether it is there or not; "" where the system does not say."""
    best, kind = "", ""
    try:
        lines = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
        resolved = str(path.resolve())
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        return ""
    for line in lines:
        _, point, found, *_ = line.split(" ")
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)  # a space is \040
        under = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if under and len(point) >= len(best):
            best, kind = point, found
    return kind
