"""Where the machine code of compiled functions is kept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from engine.compiled.builder import MACHINE_CODE, _keep_machine_code

PYTORCHS = Path(tempfile.gettempdir(), "torchinductor_somebody")


@pytest.mark.parametrize("given", [None, PYTORCHS, Path("/elsewhere/inductor-1234")])
def test_in_our_cache_where_the_user_names_no_place(given: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's own is a name in /tmp that anybody may have taken; another cache's was ours."""
    monkeypatch.delenv(MACHINE_CODE, raising=False)
    if given is not None:
        monkeypatch.setenv(MACHINE_CODE, str(given))
    _keep_machine_code(tmp_path / "inductor-1234")
    assert os.environ[MACHINE_CODE] == str(tmp_path / "inductor-1234")


def test_what_the_user_names_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MACHINE_CODE, "/scratch/inductor")
    _keep_machine_code(tmp_path / "inductor-1234")
    assert os.environ[MACHINE_CODE] == "/scratch/inductor"
