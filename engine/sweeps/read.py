"""Sweep files: read with the line of every mistake."""

from __future__ import annotations

from pathlib import Path

from engine.forms import Wording, read_form
from engine.sweeps.form import SweepForm
from engine.yaml_lines import Document

_WORDING = Wording(
    "sweep",
    "name, presets and settings",
    {
        "name": "name: my-sweep",
        "presets": "presets: [quickstart]",
        "settings": "settings: {train.lr: [0.01, 0.05]}",
        "trials": "trials: 10",
        "seeds": "seeds: [0, 1]",
        "draw_seed": "draw_seed: 0",
        "overrides": "overrides: {train: {epochs: 30}}",
        "halving": "halving: {min_epochs: 3}",
        "min_epochs": "min_epochs: 3",
        "eta": "eta: 3",
        "metric": "metric: best_accuracy",
    },
    ("seeds", "presets", "trials"),
)


def read_sweep(path: Path) -> tuple[SweepForm, Document]:
    """The sweep in a file, and where everything in it stands; `PresetError` with a line for each mistake."""
    return read_form(path, SweepForm, _WORDING)
