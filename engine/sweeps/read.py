"""Sweep files: read with the line of every mistake."""

from __future__ import annotations

from pathlib import Path

from engine.preset_errors import NAME, Wording
from engine.preset_yaml import parse_form, read_text
from engine.sweeps.form import SweepForm
from engine.yaml_lines import Document

_EXAMPLES = {
    "name": "my-sweep",
    "description": '""',
    "presets": "[quickstart]",
    "presets.*": "quickstart",
    "settings": "{train.lr: [0.01, 0.05]}",
    "trials": "10",
    "seeds": "[0, 1]",
    "seeds.*": "0",
    "overrides": "{train: {epochs: 30}}",
    "halving": "{min_epochs: 3}",
    "halving.min_epochs": "3",
}
_TOGETHER = {key: ((key,),) for key in ("seeds", "presets", "trials")}
SWEEP = Wording(SweepForm, "sweep", "name, presets and settings", _EXAMPLES, {"name": NAME}, _TOGETHER)


def read_sweep(path: Path) -> tuple[SweepForm, Document]:
    """The sweep in a file, and where everything in it stands; `PresetError` with a line for each mistake."""
    return parse_form(read_text(path), str(path), SWEEP)
