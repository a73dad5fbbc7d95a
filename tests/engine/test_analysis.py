"""`analysis.json` as anybody may have written it: read as it was meant, or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.analysed import made_up

from engine.analysis import MOST_BYTES, analysis_text, read_analysis


@pytest.mark.parametrize(("classes", "teachers"), [(10, 3), (1000, 5), (2, 0), (3, 1)])
def test_what_is_written_is_read(tmp_path: Path, classes: int, teachers: int) -> None:
    path, written = tmp_path / "analysis.json", made_up(classes, teachers)
    path.write_text(analysis_text(written))
    assert read_analysis(path) == written


def test_its_size_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "analysis.json"
    path.write_text(analysis_text(made_up(21_000, 64, side=64)))
    assert path.stat().st_size < MOST_BYTES / 2
    assert read_analysis(path) is not None


def put(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(values: Any) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    return change


DAMAGE = {
    "another form": put("form", value=2),
    "a float for a number": put("images", value=3.0),
    "true for a number": put("images", value=True),
    "no classes": put("classes", value=0),
    "a text for a number": put("teachers", value="3"),
    "a million teachers": put("teachers", value=1_000_000),
    "a class that there is not": put("hardest", 0, "label", value=10),
    "a negative class": put("confusion", "classes", 0, value=-1),
    "a class twice": put("confusion", "classes", 0, value=1),
    "a negative count": put("confusion", "student", 0, 0, value=-1),
    "an endless count": put("confusion", "student", 0, 0, value=10**400),
    "a ragged matrix": put("confusion", "student", 0, value=[1]),
    "a missing teacher": put("confusion", "teachers", value=[]),
    "a share above one": put("logit_weights", "mean", 0, value=1.5),
    "a weight that is a list": put("hardest", 0, "teachers", 0, "logit_weight", value=[0.5]),
    "a probability below zero": put("hardest", 0, "student", "probability", value=-0.5),
    "no agreement but a list": put("agreement", value=[]),
    "a mistake of no images": put("agreement", "student_mistakes", 0, "images", value=0),
    "a thousand hardest": put("hardest", value=[{}] * 1000),
    "an image that is a text": put("hardest", 3, value="</script>"),
    "a loss that is a text": put("hardest", 3, "loss", value="1"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_one_is_none(tmp_path: Path, what: str) -> None:
    values = json.loads(analysis_text(made_up(10, 3)))
    DAMAGE[what](values)
    (tmp_path / "analysis.json").write_text(json.dumps(values))
    assert read_analysis(tmp_path / "analysis.json") is None


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"{", b'{"form": 1}', b"[" * 100_000, b" " * (MOST_BYTES + 1)])
def test_other_content_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "analysis.json").write_bytes(content)
    assert read_analysis(tmp_path / "analysis.json") is None


def test_links_and_pipes_are_none(tmp_path: Path) -> None:
    (tmp_path / "true.json").write_text(analysis_text(made_up(10, 3)))
    (tmp_path / "link.json").symlink_to("true.json")
    os.mkfifo(tmp_path / "pipe.json")
    assert all(read_analysis(tmp_path / name) is None for name in ("link.json", "pipe.json", "missing.json"))


def test_a_picture_that_is_no_base64_is_left_out(tmp_path: Path) -> None:
    values = json.loads(analysis_text(made_up(10, 3)))
    values["hardest"][0]["png"] = '"><script>'
    values["hardest"][1]["png"] = "A" * 1_000_000
    (tmp_path / "analysis.json").write_text(json.dumps(values))
    found = read_analysis(tmp_path / "analysis.json")
    assert found is not None
    assert [bool(image.png) for image in found.hardest[:3]] == [False, False, True]
