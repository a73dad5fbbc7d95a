"""Sweep and table files: whatever stands at a key, the message says what to write there, and that is right."""

from __future__ import annotations

import re
from typing import Any

import pytest

from engine.errors import PresetError
from engine.preset_errors import Wording
from engine.preset_yaml import parse_form
from engine.sweeps.read import SWEEP
from engine.tables.read import TABLE
from engine.yaml_lines import read_yaml

FULL = {
    "sweep": """\
name: some
description: ''
presets: [quickstart]
settings: {train.lr: {uniform: [1, 2]}}
trials: 3
draw_seed: 0
seeds: [7]
overrides: {}
halving: {metric: best_accuracy, eta: 3, min_epochs: 1}
""",
    "table": """\
name: some
description: ''
presets: [quickstart]
methods: [{name: mmkd, label: MMKD, settings: {}, overrides: {}}]
reference: MMKD
seeds: [7]
overrides: {}
published: [{method: A, preset: quickstart, mean: 1, std: 1, source: a, url: 'https://a.b'}]
""",
}


def keys(node: Any, before: str = "") -> list[str]:
    """Every key of a form, dotted, and the numbers of lists' elements; not what `settings` and `overrides` hold."""
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, tuple) else ()
    return [
        key
        for step, part in inner
        for key in (f"{before}{step}", *([] if step in ("settings", "overrides") else keys(part, f"{before}{step}.")))
    ]


@pytest.mark.parametrize("wording", [SWEEP, TABLE], ids=["sweep", "table"])
def test_what_a_message_proposes_is_right(wording: Wording[Any]) -> None:
    text = FULL[wording.noun]
    data = read_yaml(text).data
    assert data.keys() == wording.model.model_fields.keys()
    for key in keys(data):
        with pytest.raises(PresetError) as caught:
            parse_form(text, "f.yaml", wording, [f"{key}=true"])
        (problem,) = caught.value.problems
        proposed = re.search(r"use one of (\w+)|write for example (.*?)(?: \([a-z%]+\))?$", problem)
        assert proposed, problem
        grid = ["trials=null"] if key == "settings" else []  # what is proposed draws nothing
        parse_form(text, "f.yaml", wording, [f"{key}={proposed[1] or proposed[2]}", *grid])
