"""mmkd's engine: multi-teacher knowledge distillation by a meta-weight network, with no terminal needed.

    from engine import Run, find_preset, load_preset
    result = Run(load_preset(find_preset("quickstart")), Path("runs/mine")).execute()

The names here are the public ones; what other modules have may change. docs/library.md shows a training loop of one's own.
Names are imported when they are first asked for: a display that only reads runs never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.control import Control
    from engine.data import Batch
    from engine.errors import PresetError, UserError
    from engine.methods import make_method
    from engine.models import Classifier, Output, build_model
    from engine.models.panel import TeacherPanel
    from engine.models.tapped import tapped
    from engine.plugins import load_plugin, register_architecture
    from engine.preset import AekdPart, AverPart, CamkdPart, CePart, EbkdPart, FitnetPart, KdPart, MetaPart, MmkdPart, Preset
    from engine.preset_yaml import find_preset, load_preset, parse_preset
    from engine.result import Result
    from engine.run import Run
    from engine.stepping import Stepper

__all__ = [
    "AekdPart",
    "AverPart",
    "Batch",
    "CamkdPart",
    "CePart",
    "Classifier",
    "Control",
    "EbkdPart",
    "FitnetPart",
    "KdPart",
    "MetaPart",
    "MmkdPart",
    "Output",
    "Preset",
    "PresetError",
    "Result",
    "Run",
    "Stepper",
    "TeacherPanel",
    "UserError",
    "build_model",
    "find_preset",
    "load_plugin",
    "load_preset",
    "make_method",
    "parse_preset",
    "register_architecture",
    "tapped",
]

_HOMES = {
    "AekdPart": "preset",
    "AverPart": "preset",
    "Batch": "data",
    "CamkdPart": "preset",
    "CePart": "preset",
    "Classifier": "models",
    "Control": "control",
    "EbkdPart": "preset",
    "FitnetPart": "preset",
    "KdPart": "preset",
    "MetaPart": "preset",
    "MmkdPart": "preset",
    "Output": "models",
    "Preset": "preset",
    "PresetError": "errors",
    "Result": "result",
    "Run": "run",
    "Stepper": "stepping",
    "TeacherPanel": "models.panel",
    "UserError": "errors",
    "build_model": "models",
    "find_preset": "preset_yaml",
    "load_plugin": "plugins",
    "load_preset": "preset_yaml",
    "make_method": "methods",
    "parse_preset": "preset_yaml",
    "register_architecture": "plugins",
    "tapped": "models.tapped",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'engine' has no attribute '{name}'")
    return getattr(importlib.import_module(f"engine.{_HOMES[name]}"), name)
