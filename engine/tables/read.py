"""Table files: read with the line of every mistake, and found by name."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from engine import catalog
from engine.errors import UserError
from engine.forms import Wording, read_form
from engine.preset_yaml import presets_dir
from engine.tables.form import TableForm
from engine.text import plain
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
    shipped = {path.stem: path for path in sorted((presets_dir() / "tables").glob("*.yaml"))}
    if name_or_path in shipped:
        return shipped[name_or_path]
    path = Path(name_or_path)
    with suppress(OSError, ValueError):  # no file can have such a name
        if path.exists():
            return path
    likely = catalog.nearest(path.stem, shipped)
    hint = f"did you mean '{likely}'? " if likely else ""
    raise UserError(
        f"there is no table '{plain(name_or_path, 200)}'; {hint}the shipped ones are {', '.join(shipped)}; "
        "or give the path of a file"
    )


def read_table(path: Path) -> tuple[TableForm, Document]:
    """The table in a file, and where everything in it stands; `PresetError` with a line for each mistake."""
    return read_form(path, TableForm, _WORDING)
