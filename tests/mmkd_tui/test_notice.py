"""What the notice says of runs as they lie in folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.events import RunEnded, to_line
from engine.result import stopped
from engine.run_client import DirectoryClient
from engine.run_state import RunState
from mmkd_tui.follow import Follower
from mmkd_tui.panels.notice import notice


@pytest.mark.parametrize(("mistake", "remedy"), [(True, "R tries again once that is mended"), (False, "R starts it again")])
def test_a_run_that_failed_before_its_first_event_says_why(tmp_path: Path, mistake: bool, remedy: str) -> None:
    why = "teachers.0.arch: timm has no network of that name"
    (tmp_path / "result.json").write_text(json.dumps({"state": "failed", "message": why, "mistake": mistake}))
    follower = Follower(DirectoryClient(tmp_path))
    follower.step(1.0)
    assert follower.state is RunState.FAILED
    said = notice(follower)
    assert said is not None
    assert said.headline == f"The run failed: {why}"
    assert said.remedy.startswith(remedy)


def test_a_stop_that_could_not_be_saved_is_told(tmp_path: Path) -> None:
    lost = "the last steps of resnet8 by mmkd could not be saved: mmkd resume begins it anew"
    ended = RunEnded(t=1.0, state="stopped", message=stopped(lost))
    (tmp_path / "events.jsonl").write_text(to_line(ended, 0))
    (tmp_path / "result.json").write_text(json.dumps({"state": "stopped", "message": ended.message}))
    follower = Follower(DirectoryClient(tmp_path))
    follower.step(1.0)
    assert follower.state is RunState.STOPPED
    said = notice(follower)
    assert said is not None
    assert said.bad
    assert said.headline == f"The run was stopped, but {lost}."
