"""mmkd's engine: multi-teacher knowledge distillation by a meta-weight network, with no terminal needed.

    from engine import Run, find_preset, load_preset
    result = Run(load_preset(find_preset("quickstart")), Path("runs/mine")).execute()

Names are imported when they are first asked for: a display that only reads runs never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.control import Control
    from engine.errors import PresetError, UserError
    from engine.plugins import load_plugin, register_architecture
    from engine.preset import Preset
    from engine.preset_yaml import find_preset, load_preset, parse_preset
    from engine.result import Result
    from engine.run import Run

__all__ = [
    "Control",
    "Preset",
    "PresetError",
    "Result",
    "Run",
    "UserError",
    "find_preset",
    "load_plugin",
    "load_preset",
    "parse_preset",
    "register_architecture",
]

_HOMES = {
    "Control": "control",
    "PresetError": "errors",
    "UserError": "errors",
    "Preset": "preset",
    "load_plugin": "plugins",
    "register_architecture": "plugins",
    "find_preset": "preset_yaml",
    "load_preset": "preset_yaml",
    "parse_preset": "preset_yaml",
    "Result": "result",
    "Run": "run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'engine' has no attribute '{name}'")
    return getattr(importlib.import_module(f"engine.{_HOMES[name]}"), name)
