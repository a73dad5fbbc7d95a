"""NVIDIA's management library, by nvidia-ml-py, which is optional: for those who count GPUs and those who watch one."""

from __future__ import annotations

import importlib
from typing import Any


def nvml() -> Any:
    """The library, started. RuntimeError where it is not installed, or finds no driver, or one that it does not know."""
    try:
        library: Any = importlib.import_module("pynvml")
        library.nvmlInit()
    except Exception as error:  # each of these has an error of its own
        raise RuntimeError("no GPU can be read") from error
    return library
