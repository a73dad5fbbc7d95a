"""Table files: read with the line of every mistake, and found by name."""

from __future__ import annotations

from pathlib import Path

from engine.preset_errors import NAME, Wording
from engine.preset_yaml import find_shipped, parse_form, presets_dir, read_text
from engine.tables.form import TableForm
from engine.yaml_lines import Document

_EXAMPLES = {
    "name": "my-table",
    "description": '""',
    "presets": "[quickstart]",
    "presets.*": "quickstart",
    "methods": "[{name: mmkd}, {name: aver}]",
    "methods.*": "{name: mmkd}",
    "methods.*.name": "mmkd",
    "methods.*.label": "MMKD",
    "methods.*.settings": "{beta: 10}",
    "methods.*.overrides": "{train: {epochs: 60}}",
    "reference": "MMKD",
    "seeds": "[0, 1, 2]",
    "seeds.*": "0",
    "overrides": "{train: {epochs: 60}}",
    "published": "[{method: MMKD, mean: 75.76, source: 'table 1'}]",
    "published.*": "{method: MMKD, mean: 75.76, source: 'table 1'}",
    "published.*.method": "MMKD",
    "published.*.preset": "quickstart",
    "published.*.mean": "75.76",
    "published.*.std": "0.21",
    "published.*.source": "'Zhang et al., ICME 2023, table 1'",
    "published.*.url": "https://arxiv.org/abs/2306.06634",
}
_PATTERNS = {"name": NAME, "published.*.url": "write a whole address, for example https://arxiv.org/abs/2306.06634"}
_TOGETHER = {key: ((key,),) for key in ("reference", "methods", "seeds", "presets")}
TABLE = Wording(TableForm, "table", "name, presets, methods and seeds", _EXAMPLES, _PATTERNS, _TOGETHER)


def find_table(name_or_path: str) -> Path:
    """The file of a shipped table's name, or of a path; `UserError` that lists the names for anything else."""
    return find_shipped("table", presets_dir() / "tables", name_or_path)


def read_table(path: Path) -> tuple[TableForm, Document]:
    """The table in a file, and where everything in it stands; `PresetError` with a line for each mistake."""
    return parse_form(read_text(path), str(path), TABLE)
