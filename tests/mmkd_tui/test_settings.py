"""What is remembered between two starts: kept whole, and garbage is no reason to fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.homeless import without_home

from mmkd_tui.settings import Settings, SettingsSaver, load_settings, save_settings, settings_path, usual_runs_dir


def test_what_is_saved_is_loaded() -> None:
    settings = Settings(theme="textual-light", runs_dir="/somewhere", log_y=True)
    assert save_settings(settings)
    assert load_settings() == settings


def test_runs_are_here_or_else_where_they_were_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    last = tmp_path / "far" / "away"
    save_settings(Settings(runs_dir=str(last)))
    assert usual_runs_dir() == Path("runs")  # it is gone
    last.mkdir(parents=True)
    assert usual_runs_dir() == last
    (tmp_path / "runs").mkdir()
    assert usual_runs_dir() == Path("runs")


def test_of_many_wishes_the_newest_is_saved() -> None:
    saver = SettingsSaver()
    for number in range(20):
        saver.save(Settings(theme=f"theme-{number}"))
    saver.finish()
    assert load_settings() == Settings(theme="theme-19")
    saver.save(Settings(log_y=True))  # it can be used again
    saver.finish()
    assert load_settings() == Settings(log_y=True)


def test_without_a_file_there_are_defaults() -> None:
    assert load_settings() == Settings()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "[" * 100_000, '{"theme": 3, "log": "no"}', "\udcff"])
def test_garbage_gives_defaults(content: str) -> None:
    settings_path().parent.mkdir(parents=True)
    settings_path().write_bytes(content.encode(errors="surrogateescape"))
    assert load_settings() == Settings()


def test_unknown_entries_are_passed_over() -> None:
    settings_path().parent.mkdir(parents=True)
    settings_path().write_text('{"theme": "ansi-dark", "from_the_future": 1}')
    assert load_settings() == Settings(theme="ansi-dark")


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMKD_CONFIG", str(tmp_path / "file"))
    assert not save_settings(Settings())


def test_without_a_home_folder_there_are_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    without_home(monkeypatch)
    assert load_settings() == Settings()
    assert not save_settings(Settings(log_y=True))
    assert usual_runs_dir() == Path("runs")
