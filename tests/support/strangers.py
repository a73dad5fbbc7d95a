"""Every reader of files that a stranger may have made, held against changed ones; a process of its own, whose memory is bounded.

python -m support.strangers EXAMPLES [CASE...]: so many files for each case. A line for each; the exit code is 1 where one of them
raised anything but UserError, took more than two seconds, or filled the memory.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import hashlib
import io
import json
import resource
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import safetensors.torch
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import DrawFn
from PIL import Image
from rich.console import Console

from engine.analysis import analysis_text, read_analysis
from engine.checkpoint import save_checkpoint
from engine.checkpoints_of_run import RunCheckpoints
from engine.control import Control
from engine.errors import UserError
from engine.event_reader import EventReader
from engine.events import Acknowledged, RunStarted, to_line
from engine.models import build_model
from engine.origin import origin
from engine.pictures import Job, decode_all
from engine.preset import TeacherPart
from engine.preset_yaml import dump_preset, load_preset, presets_dir
from engine.run_client import DirectoryClient
from engine.run_dir import RunDir
from engine.run_list import find_run, list_runs
from engine.serving import _ControlFile
from engine.tables.gather import gather
from engine.tables.plan import plan_table
from engine.tables.write import as_csv, as_latex, as_markdown
from engine.teachers.cache_files import CacheStore
from engine.teachers.cache_part import CHUNK, DamagedError, FileWriter, Layout, PartFile
from engine.teachers.foreign import load_fitting
from engine.teachers.store import TeacherStore
from engine.teachers.weights import pack
from engine.unpacking import unpack
from mmkd_tui.cli import cache as cache_cli
from mmkd_tui.cli import runs as runs_cli
from mmkd_tui.cli import teachers as teachers_cli
from mmkd_tui.curves import Curves
from mmkd_tui.fake_client import story
from mmkd_tui.progress import PlainProgress, picture
from mmkd_tui.report import page
from mmkd_tui.report.record import read_record
from mmkd_tui.result_table import result_table
from mmkd_tui.run_view import RunView, TeacherView
from mmkd_tui.screens.compare import row
from mmkd_tui.screens.home_lines import run_row
from mmkd_tui.settings import load_settings
from mmkd_tui.stock import Stock
from mmkd_tui.widgets.marks import marks
from support.analysed import made_up
from support.classroom import classroom
from support.mutations import changed, in_json, in_json_lines, in_safetensors, in_yaml, in_zip
from support.presets import TINY, tiny
from support.training import make_trainer

SECONDS = 2.0  # of this process's time, for one file
ROOM = 1 << 30  # bytes that all of it may take, beside what is there before the first file

Structural = Callable[[DrawFn, bytes], bytes]


@dataclass(frozen=True)
class Case:
    """Files of one kind: whole ones, how to change them by their structure, and what reads them in a folder."""

    seeds: tuple[bytes, ...]
    structural: Structural | None
    read: Callable[[Path, bytes], None]


def main(examples: int, names: list[str]) -> int:
    """The exit code."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    cases = [name for name in CASES if not names or name in names]
    for name in cases:
        CASES[name]()  # what is slow to make is made before anything is measured
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    room = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + 4 * ROOM
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    failed = False
    for name in cases:
        began = time.process_time()
        try:
            _hold(CASES[name](), examples)
            print(f"{name}: {examples} files, {time.process_time() - began:.1f} s", flush=True)
        except BaseException:
            failed = True
            said = [one[:500] for one in traceback.format_exc().splitlines()]  # what failed is in it, and may be long
            print("\n".join([f"{name}: FAILED", *said[-80:]]), flush=True)
        taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        if taken > ROOM:
            failed = True
            print(f"{name}: FAILED: {taken / 1e6:,.0f} MB were taken", flush=True)
            break
    return int(failed)


def _hold(case: Case, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(changed(case.seeds, case.structural))
    def holds(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            faulthandler.dump_traceback_later(120, exit=True)
            began = time.process_time()
            try:
                with contextlib.suppress(UserError):
                    case.read(Path(folder), content)
            finally:
                faulthandler.cancel_dump_traceback_later()
            assert time.process_time() - began < SECONDS, "too slow"

    holds()


def _preset(folder: Path, content: bytes) -> None:
    path = folder / "p.yaml"
    path.write_bytes(content)
    dump_preset(load_preset(path).anchored(folder), brief=True)


def _table(folder: Path, content: bytes) -> None:
    path = folder / "t.yaml"
    path.write_bytes(content)
    report = gather(plan_table(path, folder / "runs"))
    for form in (as_markdown, as_csv, as_latex):
        form(report).encode()


RESULT = {
    "run_dir": "runs/x", "state": "done", "message": "", "mistake": False, "name": "x", "method": "mmkd", "seed": 0,
    "student_accuracy": 0.9, "student_alone_accuracy": 0.8, "ensemble_accuracy": 0.95, "selected_on": "validation",
    "teachers": [{"name": "a", "accuracy": 0.9, "source": "store", "key": None, "logit_weight": 0.5, "feature_weight": None}],
    "best_epoch": 3, "best_accuracy": 0.9, "seconds": 3.5, "images_per_second": 100.0, "versions": {"torch": "2"},
}  # fmt: skip
META = {"pid": 4242, "host": "here", "plugins": [{"path": "/x.py", "sha256": "00"}], "started": "2026-01-01", "resumed": []}
BEAT = {"t": 1.7e9, "pid": 4242, "phase": "distil", "index": 0, "step": 3, "steps": 40, "paused": False}
EVENTS = tuple(story(epochs=6, teacher_epochs=2))


def _run_file(name: str) -> Callable[[Path, bytes], None]:
    """Reads a run's folder in every way in which something is shown of it."""

    def read(folder: Path, content: bytes) -> None:
        run = RunDir(folder / "2026-01-01T000000-x")
        run.path.mkdir()
        run.preset.write_text(TINY)
        run.lock.touch()
        run.events.write_text("".join(map(to_line, EVENTS[:1])))
        run.write_json(run.result, RESULT)
        run.write_json(run.meta, META)
        (run.path / name).write_bytes(content)
        console = Console(file=io.StringIO(), width=80)
        for summary in list_runs(folder):
            runs_cli._cells(summary)
            json.dumps(runs_cli._as_json(summary))
            row(summary, marks(False))
            run_row(summary, marks(False), 1.7e9)
        client = DirectoryClient(find_run(folder, "x"))
        client.state(), client.process(), client.console_tail()
        with contextlib.redirect_stdout(io.StringIO()):
            runs_cli._show(summary, None, client.result())
        if (result := client.result()) is not None:
            console.print(result_table(result))
            json.dumps(result)

    return read


def _analysis(folder: Path, content: bytes) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "events.jsonl").write_text("".join(map(to_line, EVENTS[:1])))
    (folder / "run" / "analysis.json").write_bytes(content)
    found = read_analysis(folder / "run" / "analysis.json")
    records = [read_record(folder / "run")]
    if found is not None:
        teachers = [TeacherView(f"t{number}") for number in range(found.teachers)]
        records.append(replace(records[0], analysis=found, view=replace(records[0].view, teachers=teachers)))
    text = page.html(records, "") + page.markdown(records, "x", None)[0] + json.dumps(page.as_json(records))
    assert "\x1b" not in text


def _events(folder: Path, content: bytes) -> None:
    (folder / "events.jsonl").write_bytes(content)
    reader, view, curves = EventReader(folder / "events.jsonl"), RunView(), Curves()
    console = Console(file=io.StringIO(), width=80)
    plain = PlainProgress(console)
    polls = 0
    while not polls or (not reader.caught_up and polls < 50):
        events = reader.poll()
        polls += 1
        view.apply_all(events)
        curves.add(events)
        plain(events)
    console.print(picture(view, 1.7e9))


def _control(folder: Path, content: bytes) -> None:
    run = RunDir(folder)
    run.control.write_bytes(content)
    wishes = Control()
    control = _ControlFile(SimpleNamespace(dir=run, control=wishes))  # type: ignore[arg-type]
    for _ in range(3):
        control.read()
    while (wish := wishes.take()) is not None:
        to_line(Acknowledged(id=wish[0], command=wish[1])).encode(errors="backslashreplace")


@functools.cache
def _trainer() -> Any:
    return make_trainer(tiny())


@functools.cache
def _saved() -> dict[str, bytes]:
    """The files of a checkpoint in the middle of a training."""
    trainer = make_trainer(tiny("train.epochs=2"), poll=_stop_at_seven)
    with contextlib.suppress(StopIteration):
        trainer.run()
    tensors, facts = trainer.state()
    with tempfile.TemporaryDirectory() as folder:
        facts |= {
            "seconds": 3.0,
            "versions": {"torch": "2"},
            "origin": {"preset": tiny().model_dump(mode="json"), "teachers": []},
        }
        save_checkpoint(Path(folder) / "c", tensors, facts)
        return {path.name: path.read_bytes() for path in (Path(folder) / "c").iterdir()}


def _stop_at_seven(trainer: Any) -> None:
    if trainer.step == 7:
        raise StopIteration


def _checkpoint(name: str) -> Callable[[Path, bytes], None]:
    """Whoever changes a checkpoint's contents changes its manifest, too."""

    def read(folder: Path, content: bytes) -> None:
        target = folder / "distil-0-step-000007"
        target.mkdir()
        files = _saved() | {name: content}
        if name != "manifest.json":
            sums = {one: {"bytes": len(files[one]), "sha256": hashlib.sha256(files[one]).hexdigest()} for one in files}
            files["manifest.json"] = json.dumps(sums).encode()
        for file, data in files.items():
            (target / file).write_bytes(data)
        found = RunCheckpoints(folder, lambda event: None)
        found.origin = origin(tiny())
        trainer = _trainer()
        found.take_up(trainer)
        json.dumps([trainer.epoch, trainer.step, found.seconds()])

    return read


@functools.cache
def _weights() -> dict[str, torch.Tensor]:
    return build_model("resnet8", 1, 10, 0).state_dict()


def _teacher(ending: str) -> Callable[[Path, bytes], None]:
    def read(folder: Path, content: bytes) -> None:
        path = folder / f"t.{ending}"
        path.write_bytes(content)
        load_fitting(path, "resnet8", lambda: build_model("resnet8", 1, 10, 0))

    return read


def _saved_by_torch(content: Any) -> bytes:
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


KEY = "0123456789abcdef"
FACTS = {
    "arch": "resnet8", "dataset": {"name": "digits"}, "seed": 0, "recipe": {"epochs": 3, "label_noise": 0.2}, "accuracy": 0.9,
    "parameters": 78042, "seconds": 3.5, "device": "cpu", "created": "2026-01-01T00:00:00+00:00", "key": KEY,
    "teacher": "resnet8-s0", "images": 700, "augmentation": None,
}  # fmt: skip


def _stored(name: str) -> Callable[[Path, bytes], None]:
    def read(folder: Path, content: bytes) -> None:
        entry = folder / KEY
        entry.mkdir()
        weights = content if name == "weights.safetensors" else pack(_weights())
        facts = FACTS | {"sha256": hashlib.sha256(weights).hexdigest()}
        (entry / "weights.safetensors").write_bytes(weights)
        (entry / "facts.json").write_bytes(content if name == "facts.json" else json.dumps(facts).encode())
        store = TeacherStore(folder)
        for one in store.entries():
            teachers_cli._cells(one)
            json.dumps(teachers_cli._as_json(one))
        Stock.read(folder)
        with contextlib.redirect_stdout(io.StringIO()):
            store.named(KEY[:4])
        classroom(folder)._kept(TeacherPart(arch="resnet8"), KEY)

    return read


SHAPE, IMAGES = (3, 4), CHUNK + 5


@functools.cache
def _cached() -> dict[str, bytes]:
    """The files of a whole view, and of one that is half built."""
    rows = np.arange(IMAGES * 48, dtype=np.uint8).reshape(IMAGES, 48)
    with tempfile.TemporaryDirectory() as folder:
        for view, count in ((0, 2), (1, 1)):
            part = PartFile(Path(folder), view, "logits", SHAPE, IMAGES)
            writer = FileWriter(part, Layout("logits", SHAPE, "float32"), lambda: None)
            for chunk in range(count):
                writer.write(np.ascontiguousarray(rows[chunk * CHUNK : (chunk + 1) * CHUNK]))
            writer.finish() if count == 2 else writer.close()
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()} | {"facts.json": json.dumps(FACTS).encode()}


def _cache_file(name: str) -> Callable[[Path, bytes], None]:
    def read(folder: Path, content: bytes) -> None:
        own = folder / KEY
        own.mkdir()
        for file, data in (_cached() | {name: content}).items():
            (own / file).write_bytes(data)
        for entry in CacheStore(folder).entries():
            cache_cli._cells(entry)
            json.dumps(cache_cli._as_json(entry))
        for view in range(2):
            part = PartFile(own, view, "logits", SHAPE, IMAGES)
            part.known(), part.begun(), part.taken()
            with contextlib.suppress(DamagedError):
                part.read(lambda: None)
        FileWriter(part, Layout("logits", SHAPE, "float32"), lambda: None).close()

    return read


def _settings(folder: Path, content: bytes) -> None:
    import os

    os.environ["MMKD_CONFIG"] = str(folder)
    (folder / "settings.json").write_bytes(content)
    found = load_settings()
    assert {type(found.log_y), type(found.theme)} == {bool, str}
    Path(found.runs_dir).is_dir()


def _archive(ending: str) -> Callable[[Path, bytes], None]:
    def read(folder: Path, content: bytes) -> None:
        path, target = folder / f"a{ending}", folder / "in" / "here"
        path.write_bytes(content)
        target.mkdir(parents=True)
        with contextlib.suppress(OSError):  # names that no file can have; `fetch` tells of them
            unpack(path, target, 1 << 20, lambda done, total: None)
        assert sorted(one.name for one in folder.iterdir()) == sorted((path.name, "in"))
        assert [one.name for one in (folder / "in").iterdir()] == ["here"]

    return read


@functools.cache
def _tar(mode: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w{mode}", format=tarfile.PAX_FORMAT) as archive:
        for name in ("a/one.txt", "a/" + "b" * 120 + "/two.txt"):
            info = tarfile.TarInfo(name)
            info.size = 700
            archive.addfile(info, io.BytesIO(b"x" * 700))
    return out.getvalue()


@functools.cache
def _zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/one.txt", "x" * 700)
        archive.writestr("a/b/two.txt", "y" * 700)
    return out.getvalue()


def _picture(folder: Path, content: bytes) -> None:
    (folder / "p.jpg").write_bytes(content)
    found = decode_all(Job(str(folder), ("p.jpg",), 32, None))
    assert all(why.isprintable() for why in found.broken.values())


def _drawn(form: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.arange(24 * 20 * 3, dtype=np.uint8).reshape(24, 20, 3)).save(out, form)
    return out.getvalue()


def _run_case(name: str, content: dict[str, Any] | bytes, structural: Structural | None = in_json) -> Callable[[], Case]:
    seed = content if isinstance(content, bytes) else json.dumps(content, indent=1).encode()
    return lambda: Case((seed,), structural, _run_file(name))


def _yaml_files(folder: Path) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(folder.glob("*.yaml")))[:6]


_LINES = "".join(map(to_line, EVENTS[:30])).encode()
_STARTED = to_line(next(event for event in EVENTS if isinstance(event, RunStarted))).encode()
_WISH = b'{"id": "a", "command": "pause", "t": 1.0}\n{"id": "b", "command": "stop", "t": 2.0}\n'
CASES: dict[str, Callable[[], Case]] = {
    "preset": lambda: Case((TINY.encode(), *_yaml_files(presets_dir())), in_yaml, _preset),
    "table": lambda: Case(_yaml_files(presets_dir() / "tables"), in_yaml, _table),
    "events": lambda: Case((_LINES, "".join(map(to_line, EVENTS[-40:])).encode()), in_json_lines, _events),
    "first event": _run_case("events.jsonl", _STARTED, in_json_lines),
    "result": _run_case("result.json", RESULT),
    "meta": _run_case("meta.json", META),
    "analysis": lambda: Case((analysis_text(made_up(10, 2)).encode(),), in_json, _analysis),
    "heartbeat": _run_case("heartbeat.json", BEAT),
    "lock": _run_case("engine.lock", b"some-machine", None),
    "preset of a run": _run_case("preset.yaml", TINY.encode(), in_yaml),
    "console": _run_case("console.log", b"one\ntwo\n", None),
    "control": lambda: Case((_WISH,), in_json_lines, _control),
    "checkpoint: manifest": lambda: Case((_saved()["manifest.json"],), in_json, _checkpoint("manifest.json")),
    "checkpoint: facts": lambda: Case((_saved()["facts.json"],), in_json, _checkpoint("facts.json")),
    "checkpoint: tensors": lambda: Case((_saved()["tensors.safetensors"],), in_safetensors, _checkpoint("tensors.safetensors")),
    "weights: pth": lambda: Case(
        (_saved_by_torch(_weights()), _saved_by_torch({"model": _weights(), "best_acc": np.float64(1), "epoch": 3})),
        in_zip,
        _teacher("pth"),
    ),
    "weights: safetensors": lambda: Case((safetensors.torch.save(_weights()),), in_safetensors, _teacher("safetensors")),
    "store: facts": lambda: Case((json.dumps(FACTS).encode(),), in_json, _stored("facts.json")),
    "store: weights": lambda: Case((pack(_weights()),), in_safetensors, _stored("weights.safetensors")),
    "cache: facts": lambda: Case((_cached()["facts.json"],), in_json, _cache_file("facts.json")),
    "cache: manifest": lambda: Case((_cached()["view-0000-logits.json"],), in_json, _cache_file("view-0000-logits.json")),
    "cache: journal": lambda: Case((_cached()["view-0001-logits.journal"],), None, _cache_file("view-0001-logits.journal")),
    "cache: rows": lambda: Case((_cached()["view-0000-logits.rows"],), None, _cache_file("view-0000-logits.rows")),
    "settings": lambda: Case((json.dumps({"theme": "nord", "runs_dir": "runs", "log_y": True}).encode(),), in_json, _settings),
    "archive: tar": lambda: Case((_tar(""),), None, _archive(".tar")),
    "archive: tar.gz": lambda: Case((_tar(":gz"),), None, _archive(".tar.gz")),
    "archive: zip": lambda: Case((_zipped(),), in_zip, _archive(".zip")),
    "picture": lambda: Case(tuple(map(_drawn, ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"))), None, _picture),
}
for _name in CASES:
    CASES[_name] = functools.cache(CASES[_name])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
