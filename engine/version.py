"""Which mmkd this is, and on what it runs: recorded with everything that is kept."""

from __future__ import annotations

import importlib.metadata
import platform


def version() -> str:
    """The installed version, which names the commit where it was built from a checkout (git describe's form)."""
    try:
        return importlib.metadata.version("mmkd-tui")
    except importlib.metadata.PackageNotFoundError:
        return "0+unknown"


def versions() -> dict[str, str]:
    """Of mmkd, Python and the libraries that decide the numbers."""
    libraries = {
        name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy", "scikit-learn", "safetensors")
    }
    return {"mmkd": version(), "python": platform.python_version(), **libraries}
