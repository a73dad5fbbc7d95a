"""Versions, and whether what is installed goes together."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import shutil
from collections.abc import Iterator

from engine.doctor.finding import Finding
from engine.text import one_line
from engine.version import version

SECTION = "software"
LIBRARIES = ("torch", "torchvision", "textual", "rich", "typer", "safetensors", "scikit-learn", "numpy")
OPTIONAL = {"timm": "timm's architectures", "nvidia-ml-py": "GPU use, memory and temperature"}
EXTRAS = {"timm": "timm", "nvidia-ml-py": "gpu"}


def findings() -> Iterator[Finding]:
    """Of Python, mmkd and the libraries it stands on."""
    yield Finding(SECTION, "mmkd", f"{version()} on Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for name in LIBRARIES:
        found = _installed(name)
        if found is None:
            yield Finding(SECTION, name, "missing", "problem", "install mmkd again: pip install mmkd-tui")
        else:
            yield Finding(SECTION, name, found)
    yield from _torchvision()
    for name, what in OPTIONAL.items():
        found = _installed(name)
        remedy = "" if found else f"for {what}: pip install 'mmkd-tui[{EXTRAS[name]}]'"
        yield Finding(SECTION, name, found or "not installed", "ok" if found else "note", remedy)
    compiler = next((path for name in ("g++", "clang++") if (path := shutil.which(name))), None)
    if compiler:
        yield Finding(SECTION, "C++ compiler", compiler)
    else:
        remedy = "long trainings on the CPU run faster with one: install g++ (Debian's package g++)"
        yield Finding(SECTION, "C++ compiler", "none: steps stay uncompiled", "warning", remedy)


def _torchvision() -> Iterator[Finding]:
    """A torchvision of another torch fails only when it is imported."""
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        remedy = "let pip choose both together: pip install --force-reinstall torch torchvision"
        yield Finding(SECTION, "torchvision", f"cannot be imported: {one_line(str(error), 200)}", "problem", remedy)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
