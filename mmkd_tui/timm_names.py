"""Which networks timm has, read from its files: to ask timm itself would import torch."""

from __future__ import annotations

import importlib.util
import re
from functools import cache, lru_cache
from pathlib import Path

from engine.architectures import library_of
from engine.catalog import nearest

# What a file of timm registers, and keys of its lists of weights and of former names; a word too many does no harm here.
_NAME = re.compile(r"""^@register_model\s+def (\w+)\(|^ {4}['"](\w+)(?:\.\w+)?['"] *:""", re.MULTILINE)


@cache
def _names() -> frozenset[str]:
    """Names of networks, without those of their weights; none where timm is not installed."""
    found = importlib.util.find_spec("timm")
    folders = list(found.submodule_search_locations or ()) if found else []
    files = [file for folder in folders for file in (Path(folder) / "models").rglob("*.py")]
    return frozenset(one or other for file in files for one, other in _NAME.findall(file.read_text("utf-8", "replace")))


@lru_cache(maxsize=256)  # which is nearest takes long, and is asked at every key
def trouble_with_name(arch: str) -> str:
    """That timm has no network of the name, and which may be meant; "" where it may have, or none of its names are known."""
    library, name = library_of(arch)
    base = name.partition(".")[0]
    if library != "timm" or not _names() or base in _names():
        return ""
    likely = nearest(base, sorted(_names()))
    return f"timm has no network of that name; {f'did you mean timm:{likely}?' if likely else 'timm.list_models() tells them'}"
