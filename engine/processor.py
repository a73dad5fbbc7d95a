"""This machine's processor: its name, and what it can do that changes the speed."""

from __future__ import annotations

import platform
import re
from contextlib import suppress
from pathlib import Path

from engine.text import one_line

FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd", "bf16", "sve")


def processor() -> tuple[str, set[str]]:
    """Its name and all its flags, as Linux tells them."""
    text = ""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    return one_line(name[1] if name else platform.processor() or platform.machine()), set(flags[1].split() if flags else ())
