"""Architectures by name: which there are, where each is from, and what is known of it.

Beside the catalogue's own there are all of torchvision's (`torchvision:NAME`), all of timm's (`timm:NAME`; which there are, only
timm knows) and those that a plugin registered.
"""

from __future__ import annotations

import re

from engine import plugins
from engine.architecture_facts import ARCHITECTURES, TORCHVISION, ArchitectureFacts
from engine.catalog import nearest

LIBRARY_NAME = re.compile(r"(torchvision|timm):[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def library_of(name: str) -> tuple[str, str]:
    """("torchvision", "resnet18"), ("timm", ...), ("plugin", ...), or ("catalogue", name) for one of the catalogue's own."""
    library, colon, short = name.partition(":")
    if colon:
        return library, short
    return ("plugin" if name in plugins.registered() else "catalogue"), name


def is_architecture(name: str) -> bool:
    """Whether a preset may name it. Which networks timm has is found out when one is built."""
    library, short = library_of(name)
    if library == "torchvision":
        return short in TORCHVISION
    return name in ARCHITECTURES or library == "plugin" or (library == "timm" and LIBRARY_NAME.fullmatch(name) is not None)


def architecture_of(name: str) -> ArchitectureFacts:
    """What is known of it; of timm's networks, a plugin's and unknown ones, nothing but the name and where it is from."""
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    library, short = library_of(name)
    if library == "torchvision" and short in TORCHVISION:
        return TORCHVISION[short]
    return ArchitectureFacts(name, library, None, 0, 0, 0, 16)


def every_name() -> tuple[str, ...]:
    """All names that are known without asking timm: the catalogue's, plugins', torchvision's."""
    return (*ARCHITECTURES, *plugins.registered(), *(fact.name for fact in TORCHVISION.values()))


def likely_name(name: str) -> str | None:
    """The one that a wrong name may be meant for, if any is like it; torchvision's networks go by their own names, too."""
    known = {short: fact.name for short, fact in TORCHVISION.items()} | {own: own for own in every_name()}
    found = nearest(name, known)
    return known[found] if found else None


def identity(name: str) -> str:
    """What stands for an architecture in keys: a plugin's with its file's digest, so that other code is another network."""
    owner = plugins.plugin_of(name)
    return name if owner is None else f"{name}@{owner.sha256}"
