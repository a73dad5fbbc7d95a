"""Table files: read with the line of every mistake, and found by name."""

from __future__ import annotations

from pathlib import Path

from engine.forms import Wording, read_form
from engine.preset_yaml import find_shipped, presets_dir
from engine.tables.form import TableForm
from engine.yaml_lines import Document

EXAMPLES = {
    "name": "name: my-table",
    "presets": "presets: [quickstart]",
    "methods": "methods: [{name: mmkd}, {name: aver}]",
    "seeds": "seeds: [0, 1, 2]",
    "mean": "mean: 75.76",
    "source": "source: 'Zhang et al., ICME 2023, table 1'",
    "method": "method: MMKD",
    "url": "url: https://arxiv.org/abs/2306.06634",
    "label": "label: 'MMKD, raw Gram'",
    "reference": "reference: MMKD",
    "settings": "settings: {beta: 10}",
    "overrides": "overrides: {train: {epochs: 60}}",
    "std": "std: 0.21",
    "published": "published: [{method: MMKD, mean: 75.76, source: 'table 1'}]",
}
_WORDING = Wording("table", "name, presets, methods and seeds", EXAMPLES, ("reference", "methods", "seeds", "presets"))


def find_table(name_or_path: str) -> Path:
    """The file of a shipped table's name, or of a path; `UserError` that lists the names for anything else."""
    return find_shipped("table", presets_dir() / "tables", name_or_path)


def read_table(path: Path) -> tuple[TableForm, Document]:
    """The table in a file, and where everything in it stands; `PresetError` with a line for each mistake."""
    return read_form(path, TableForm, _WORDING)
