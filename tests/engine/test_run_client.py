"""A run's folder as viewers read it: events as they come, the state, wishes, lists; and nothing in it is trusted."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.nfs import files_that_are_open_stay
from support.presets import tiny
from support.refusal import refused

from engine import locks
from engine.errors import UnreadableError, UserError
from engine.event_reader import BLOCK, MOST_EVENTS
from engine.events import EpochEnded, Event, Log, Metrics, RunStarted, from_line, to_line
from engine.preset_yaml import dump_preset
from engine.run_client import DirectoryClient
from engine.run_dir import Lock, RunDir, take_over
from engine.run_list import find_run, list_runs, remove_run, settings_given
from engine.run_state import PATIENCE, RunState


def log(number: int) -> Log:
    return Log(level="info", message=str(number), t=float(number))


def metrics(step: int) -> Metrics:
    numbers = {"epoch": 0, "step": step, "steps": 10**6, "lr": 0.1, "loss": 1.25, "ce": 0.5, "accuracy": 0.5}
    return Metrics(phase="distil", index=0, images_per_second=100.0, logit_weights=(0.25, 0.75), t=float(step), **numbers)


STARTED = RunStarted(
    name="[/red]x", run_dir="x", dataset="digits", classes=("0",), teachers=(), student="resnet8", method="kd", device="cpu",
    seed=0, t=5.0,
)  # fmt: skip


def epoch(number: int) -> EpochEnded:
    return EpochEnded(phase="distil", index=0, epoch=number, step=1, lr=0.1, loss=1.0, ce=1.0, accuracy=0.5, t=1.0)


def all_events(client: DirectoryClient) -> list[Event]:
    found = list(client.poll())
    while not client.caught_up():
        found += client.poll()
    return found


@pytest.fixture
def folder(tmp_path: Path) -> RunDir:
    path = tmp_path / "runs" / "one"
    path.mkdir(parents=True)
    return RunDir(path)


@pytest.fixture
def held(folder: RunDir) -> Iterator[Lock]:
    lock = Lock(folder)
    yield lock
    lock.release()


# ---- events


def test_no_folder_and_no_files_are_no_error(tmp_path: Path) -> None:
    client = DirectoryClient(tmp_path / "nowhere")
    assert list(client.poll()) == []
    assert client.caught_up()
    assert client.state() is RunState.GONE
    assert client.result() is None
    assert list(client.console_tail()) == []
    assert list_runs(tmp_path / "nowhere") == []


def test_a_torn_line_waits_until_it_is_whole(folder: RunDir) -> None:
    client = DirectoryClient(folder.path)
    line = to_line(log(1))
    folder.events.write_text(line + line[:20])
    assert list(client.poll()) == [log(1)]
    assert list(client.poll()) == []
    assert client.caught_up()
    with folder.events.open("a") as file:
        file.write(line[20:] + to_line(log(2)))
    assert list(client.poll()) == [log(1), log(2)]


def test_what_is_no_event_is_skipped(folder: RunDir) -> None:
    lines = ["", "null", "[1]", "{", '{"kind":"of tomorrow","t":1}', "\x00\xff", '{"kind":"log"}', "[" * 100_000]
    lines += ['{"kind":"log","t":"now","level":"info","message":"x"}', '{"kind":"log","t":1e999,"level":"info","message":"x"}']
    lines += ['{"kind":"teacher_ready","t":1,"index":[0],"label":"x","accuracy":1,"source":""}']
    lines += ['{"kind":"log","t":NaN,"level":"info","message":"x"}', f'{{"kind":"log","t":1{"0" * 400},"level":"","message":""}}']
    lines += ["x" * (3 * BLOCK)]
    folder.events.write_bytes("\n".join(lines).encode("latin-1") + b"\n" + to_line(log(7)).encode())
    assert all_events(DirectoryClient(folder.path)) == [log(7)]


def test_numbers_that_were_not_finite_are_seen() -> None:
    event = from_line(to_line(replace(metrics(1), loss=math.nan, logit_weights=(math.inf, 0.5))))
    assert isinstance(event, Metrics)
    assert event.loss is None
    assert math.isnan(event.logit_weights[0])
    assert event.logit_weights[1] == 0.5


def test_a_file_that_was_replaced_or_cut_starts_again(folder: RunDir) -> None:
    client = DirectoryClient(folder.path)
    folder.events.write_text(to_line(log(1)) + to_line(log(2)))
    assert len(client.poll()) == 2
    folder.events.write_text(to_line(log(3)))
    assert list(client.poll()) == [log(3)]
    (folder.path / "new").write_text(to_line(log(4)) * 5)
    (folder.path / "new").replace(folder.events)
    assert len(client.poll()) == 5


def test_a_poll_takes_a_bounded_share_and_thins_out_only_metrics(folder: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    backlog = 4 << 20
    monkeypatch.setattr("engine.event_reader.BACKLOG", backlog)
    line = to_line(metrics(1))
    count = 4 * backlog // len(line)
    with folder.events.open("w") as file:
        for number in range(20):
            file.write(to_line(epoch(number)) + line * (count // 20))
    client = DirectoryClient(folder.path)
    found: list[Event] = []
    polls = 0
    while not polls or not client.caught_up():
        events = client.poll()
        assert len(events) <= MOST_EVENTS
        found += events
        polls += 1
    assert polls > 1
    assert [event.epoch for event in found if isinstance(event, EpochEnded)] == list(range(20))
    assert count / 8 < len(found) < count / 2
    with folder.events.open("a") as file:  # from here on, every one
        file.write(line * 50)
    assert len(client.poll()) == 50


def test_only_what_is_new(folder: RunDir) -> None:
    folder.events.write_text(to_line(log(1)))
    client = DirectoryClient(folder.path, only_new=True)
    with folder.events.open("a") as file:
        file.write(to_line(log(2)))
    assert list(client.poll()) == [log(2)]


def test_a_pipe_or_a_link_for_events_does_not_hang_or_lead_astray(folder: RunDir, tmp_path: Path) -> None:
    os.mkfifo(folder.events)
    assert list(DirectoryClient(folder.path).poll()) == []
    (tmp_path / "secret").write_text("")
    folder.control.symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match="cannot be told to stop"):
        DirectoryClient(folder.path).request("stop")
    assert (tmp_path / "secret").read_text() == ""


def test_the_end_of_the_console_is_bounded(folder: RunDir) -> None:
    folder.console.write_bytes(b"first\n" + b"y" * 300_000 + b"\n\xff\x1b[2J\nlast\n")
    tail = DirectoryClient(folder.path).console_tail()
    assert list(tail) == ["�\x1b[2J", "last"]
    assert list(DirectoryClient(folder.path).console_tail(1)) == ["last"]


# ---- state


def beat(folder: RunDir, **fields: object) -> None:
    folder.heartbeat.write_text(json.dumps({"t": time.time(), "phase": "distil", "step": 30, "steps": 40, **fields}))


def test_states_by_result_then_lock_then_heartbeat(folder: RunDir) -> None:
    client = DirectoryClient(folder.path)
    assert client.state() is RunState.CRASHED
    lock = Lock(folder)
    assert client.state() is RunState.STARTING
    beat(folder)
    assert client.state() is RunState.RUNNING
    beat(folder, paused=True)
    assert client.state() is RunState.PAUSED
    beat(folder, paused="yes")
    assert client.state() is RunState.RUNNING
    lock.release()
    assert client.state() is RunState.CRASHED
    for said, state in (("done", RunState.FINISHED), ("stopped", RunState.STOPPED), ("failed", RunState.FAILED)):
        folder.result.write_text(json.dumps({"state": said}))
        assert client.state() is state
    folder.result.write_text('{"state": ["done"]}')
    assert client.state() is RunState.CRASHED


def test_a_silent_host_does_not_respond_whatever_the_clock_does(
    folder: RunDir, held: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat(folder)
    clock = {"monotonic": time.monotonic(), "time": time.time()}
    for name in clock:
        monkeypatch.setattr(time, name, lambda name=name: clock[name])
    client = DirectoryClient(folder.path)
    assert client.state() is RunState.RUNNING
    clock["time"] += 7200  # the wall clock is set: nothing follows from that
    assert client.state() is RunState.RUNNING
    clock["time"] -= 9000
    clock["monotonic"] += PATIENCE + 1
    assert client.state() is RunState.NOT_RESPONDING
    beat(folder)
    assert client.state() is RunState.RUNNING


def test_a_first_look_goes_by_the_wall_clock(folder: RunDir, held: Lock) -> None:
    old = time.time() - 60
    beat(folder, t=old)
    assert DirectoryClient(folder.path).state() is RunState.RUNNING  # its file is new: only the host's clock is wrong
    os.utime(folder.heartbeat, (old, old))
    assert DirectoryClient(folder.path).state() is RunState.NOT_RESPONDING


def test_of_another_machine_only_the_heartbeat_tells(folder: RunDir) -> None:
    folder.lock.write_text("elsewhere-" + platform.node())
    beat(folder)
    client = DirectoryClient(folder.path, patience=0.2)
    assert client.state() is RunState.RUNNING
    time.sleep(0.3)
    assert client.state() is RunState.NOT_RESPONDING


def test_a_lock_names_its_machine_on_the_disk_before_it_counts(folder: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a network, others read a file as its server has it: without a name they would take the lock for one of their own."""
    folder.lock.write_text("another-machine-with-a-long-name")
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.pread(handle, 256, 0).decode()))
    Lock(folder).release()
    assert synced == [platform.node()] == [folder.lock.read_text()]

    def broken(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    Lock(folder).release()


def test_looking_never_makes_a_lock_nor_keeps_a_host_out(folder: RunDir) -> None:
    client = DirectoryClient(folder.path)
    client.state()
    assert not folder.lock.exists()
    Lock(folder).release()
    handle = os.open(folder.lock, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)  # as a viewer does for a moment
    viewer = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.1)"], pass_fds=(handle,))
    os.close(handle)
    Lock(folder).release()
    viewer.wait()


def test_a_lock_that_is_a_link_is_not_followed(folder: RunDir, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    folder.lock.symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=r"engine\.lock"):
        Lock(folder)
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("content", ["", "[]", "nonsense", '{"state": "done", "teachers": [1, {"name": 3}], "seconds": "x"}'])
def test_a_result_has_its_fields_or_is_none(folder: RunDir, content: str) -> None:
    folder.result.write_text(content)
    result = DirectoryClient(folder.path).result()
    if "done" not in content:
        assert result is None
    else:
        assert result is not None
        assert result["seconds"] == 0.0
        assert [teacher["name"] for teacher in result["teachers"]] == [""]
        assert result["student_accuracy"] is None


def test_a_wish_is_a_line_with_an_id(folder: RunDir) -> None:
    client = DirectoryClient(folder.path)
    ids = [client.request("pause"), client.request("stop")]
    lines = [json.loads(line) for line in folder.control.read_text().splitlines()]
    assert [(line["id"], line["command"]) for line in lines] == list(zip(ids, ("pause", "stop"), strict=True))
    assert len(set(ids)) == 2


# ---- lists


def make_run(runs: Path, name: str, **result: object) -> RunDir:
    run = RunDir(runs / name)
    run.path.mkdir(parents=True)
    run.preset.write_text(dump_preset(tiny()))
    run.events.write_text(to_line(STARTED) + to_line(metrics(1)))
    beat(run)
    if result:
        run.result.write_text(json.dumps(result))
    return run


def test_a_list_reads_what_small_files_say_and_passes_over_the_rest(tmp_path: Path) -> None:
    done = make_run(tmp_path, "b-done", state="done", student_accuracy=0.9, student_alone_accuracy=7)
    make_run(tmp_path, "a-crashed").events.unlink()
    (tmp_path / "a-crashed" / "engine.lock").touch()
    (tmp_path / "no-run").mkdir()
    (tmp_path / "a-file").touch()
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "preset.yaml").write_text(dump_preset(tiny()))
    newest, oldest = list_runs(tmp_path)
    assert (newest.path.name, newest.name, newest.method, newest.student) == ("a-crashed", "tiny", "mmkd", "resnet8")
    assert (newest.state, newest.share, newest.phase) == (RunState.CRASHED, 0.75, "distil")
    assert (oldest.path, oldest.name, oldest.method, oldest.started) == (done.path, "[/red]x", "kd", 5.0)
    assert (oldest.state, oldest.share, oldest.student_accuracy, oldest.student_alone_accuracy) == ("finished", 1.0, 0.9, None)
    assert (newest.seed, oldest.seed) == (0, 0)
    assert oldest.size == sum(path.stat().st_size for path in done.path.iterdir())


def test_a_list_tells_what_runs_of_one_preset_differ_in(tmp_path: Path) -> None:
    run = make_run(tmp_path, "one", state="done")
    run.events.write_text(to_line(replace(STARTED, seed=5)))
    run.meta.write_text(json.dumps({"argv": ["mmkd", "run", "--set", "train.lr=0.1", "tiny", "--set=train.epochs=2"]}))
    strange = make_run(tmp_path, "two", state="done")
    strange.meta.write_text(json.dumps({"argv": ["--set", 7, None, "--set"]}))
    told = {found.path.name: (found.seed, found.changed) for found in list_runs(tmp_path)}
    assert told["one"] == (5, ("train.lr=0.1", "train.epochs=2"))
    assert told["two"][1] == ("",)
    begun = make_run(tmp_path, "three", state="done")
    resumed = {"argv": ["engine/host.py", "--resume"], "begun_by": ["mmkd", "run", "--set", "seed=3"]}
    begun.meta.write_text(json.dumps(resumed))
    assert settings_given(begun.path) == ("seed=3",)


def test_a_run_is_found_by_its_name_a_part_or_a_path(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    first = make_run(runs, "2026-01-01T000000-tiny", state="done")
    second = make_run(runs, "2026-01-02T000000-tiny", state="done")
    assert find_run(runs, "01-01T") == first.path
    assert find_run(runs, second.path.name) == second.path
    assert find_run(tmp_path, str(first.path)) == first.path
    assert find_run(runs, None) in (first.path, second.path)
    for name, fragment in (
        ("none", "no run 'none'"),
        ("tiny", "2 runs"),
        ("", "no run ''"),
        ("\x1b[2J", r"\\x1b"),
        ("x" * 9999, "…"),
    ):
        with pytest.raises(UserError, match=fragment):
            find_run(runs, name)
    with pytest.raises(UserError, match="no live run"):
        find_run(runs, None, live=True)
    second.result.unlink()
    lock = Lock(second)
    assert find_run(runs, None, live=True) == find_run(runs, "tiny", live=True) == second.path
    lock.release()


def test_removing_takes_the_folder_and_follows_no_link(tmp_path: Path) -> None:
    runs, outside = tmp_path / "runs", tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    run = make_run(runs, "one", state="done")
    (run.path / "link").symlink_to(outside)
    remove_run(run.path)
    assert list(runs.iterdir()) == []
    other = make_run(tmp_path / "elsewhere", "two", state="done")
    (runs / "two").symlink_to(other.path)
    remove_run(runs / "two")
    assert (outside / "kept").exists()
    assert other.events.exists()
    live = make_run(runs, "three")
    lock = Lock(live)
    with pytest.raises(UserError, match="mmkd stop three"):
        remove_run(live.path)
    lock.release()
    assert live.events.exists()


def test_removing_a_run_on_nfs_takes_its_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "runs", "one", state="done")
    Lock(run).release()
    files_that_are_open_stay(monkeypatch)
    remove_run(run.path)
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_finished_run_whose_result_cannot_be_read_now_is_not_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, "one", state="done")
    run.preset.write_text(dump_preset(tiny()))
    before = run.result.read_bytes()
    with monkeypatch.context() as context:
        refused(context, "open", run.result, errno.EIO)
        with pytest.raises(UnreadableError, match="Input/output error"):
            take_over(run)
    assert run.result.read_bytes() == before
    with pytest.raises(UserError, match="is finished"):
        take_over(run)
    run.result.unlink()
    take_over(run).release()  # whoever refused holds no lock


@pytest.mark.parametrize("error", [OSError(errno.EROFS, os.strerror(errno.EROFS)), KeyboardInterrupt()], ids=["disk", "Ctrl-C"])
def test_a_run_that_could_not_be_taken_over_is_not_held(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app and a sweep live on, and try again."""
    run = make_run(tmp_path, "one", state="stopped")
    run.preset.write_text(dump_preset(tiny()))

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise error

    with monkeypatch.context() as context:
        context.setattr(Path, "unlink", refuse)
        with pytest.raises(type(error)):
            take_over(run)
    assert locks.held(run.lock) is False
    take_over(run).release()
    assert not run.result.exists()


def test_a_viewer_needs_no_torch() -> None:
    code = "import sys, engine.run_client; assert not {'torch', 'numpy', 'textual'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_list_that_is_read_again_follows_a_result_that_changes(tmp_path: Path) -> None:
    """Runs that ended are read once; one that goes on, and ends anew, shows."""
    folder = RunDir(tmp_path / "a")
    folder.path.mkdir()
    folder.events.write_text("")
    folder.result.write_text('{"state": "stopped"}')
    (first,) = list_runs(tmp_path)
    assert (first.state, first.student_accuracy) == (RunState.STOPPED, None)
    assert list_runs(tmp_path) == [first]
    folder.result.unlink()
    (crashed,) = list_runs(tmp_path)
    assert crashed.state is not RunState.STOPPED
    folder.result.write_text('{"state": "done", "student_accuracy": 0.5}')
    (ended,) = list_runs(tmp_path)
    assert (ended.state, ended.student_accuracy) == (RunState.FINISHED, 0.5)
