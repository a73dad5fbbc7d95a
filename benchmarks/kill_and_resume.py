"""One small run, ended by a signal at many moments and gone on with: it must end as if nobody had touched it, to the bit.

    python benchmarks/kill_and_resume.py [--signal KILL] [--times 50] [--seed 0] [--json] [--folder DIR]

Each time a run of its own, from an empty teacher store on, is ended at a moment of some kind (see KINDS) or after a random time,
gone on with, and often ended again. Its student, its teachers and every figure of every epoch are then compared with those of a
run that was left alone. Exit code 0 where all agree.

The hosts are real ones (`engine.host.main`), in processes forked from this one, which has imported what they need; those of the
kind "a fresh process" begin with nothing.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import engine.data.digits  # with scikit-learn, so that no fork need import that
import engine.run
import engine.teachers.cache
import engine.trainer
from engine import parse_preset
from engine.checkpoints_of_run import RunCheckpoints
from engine.control import STOP_SIGNALS
from engine.events import EpochEnded, StudentAloneReady, TeacherReady, from_line
from engine.host import main as host
from engine.paths import write_whole
from engine.preset_yaml import dump_preset
from engine.run_dir import RunDir
from engine.run_state import StateReader
from engine.stepping import Stepper
from engine.teachers.store import TeacherStore

PRESET = """
name: small
dataset: {name: digits, train_images: 48}
teachers:
  - {arch: resnet8, seed: 0, train: {epochs: 2, batch_size: 16}}
  - {arch: resnet8, seed: 1, train: {epochs: 1, batch_size: 16}}
student: {arch: resnet8}
method: {name: mmkd, beta: 1, meta: {every: 2, buffer_size: 20}}
train: {epochs: 4, batch_size: 16}
evaluate: {select_on: validation}
hardware: {device: cpu, compile: off, threads: 1}
"""
TEACHERS = {"asked": "teacher_cache=null", "cached": "teacher_cache={views: 2, storage: disk}"}
SAVING = {
    "each step": ("checkpoints.every=0",),
    "each epoch": ("checkpoints.every=null", "checkpoints.every_epochs=1"),
    "now and then": ("checkpoints.every=0.2", "checkpoints.keep=1"),
}
STEPS = {"teacher": "teacher step", "alone": "student alone", "distil": "train step"}
ANY, FRESH = "any time", "a fresh process"
WRITES = ("checkpoint", "teacher stored", "student saved", "teacher cache", "ending")
FIRST = ("teacher step", "student alone", "train step", "meta step", "evaluation", *WRITES, ANY)
LATER = ("resuming", "resuming", "train step", "checkpoint", "evaluation", ANY)
KINDS = (*dict.fromkeys((*FIRST, *LATER)), FRESH)
FRESH_ONE_IN = 16  # a fresh process takes seconds to import PyTorch
CALLS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "fcntl.flock"}  # of the system, as Python tells
PATIENCE = 120.0  # seconds for a run that takes a few


class Tripwire:
    """In the host's process: counts the moments of each kind, and ends the process by a signal at one of them.

    A moment is the beginning of something (a step, a write), and each call of the system's within it.
    """

    def __init__(self, number: int) -> None:
        self.signal = number
        self.kind, self.at = "", 0
        self.counts: Counter[str] = Counter()
        self.phase = ""
        self.here = threading.local()

    def arm(self, kind: str, at: int) -> None:
        """Before the host begins."""
        self.kind, self.at = kind, at
        sys.addaudithook(lambda event, _: self.count() if event in CALLS else None)
        self.watch(os, "fsync", lambda: getattr(self.here, "kind", ""))
        self.watch(Stepper, "__call__", lambda: STEPS[self.phase])
        self.watch(Stepper, "meta_gradient", lambda: "meta step")
        self.watch(engine.trainer, "logits_of", lambda: "evaluation")
        self.watch(RunCheckpoints, "save", lambda: "checkpoint")
        self.watch(RunCheckpoints, "forget", lambda: "ending")
        self.watch(RunDir, "write_json", lambda: "ending")
        self.watch(TeacherStore, "add", lambda: "teacher stored")
        self.watch(engine.run.Run, "_save_student", lambda: "student saved")
        self.watch(engine.teachers.cache.CachedTeachers, "fill", lambda: "teacher cache")
        self.watch(RunCheckpoints, "take_up", lambda: "resuming")
        self.watch(RunCheckpoints, "clear_leftovers", lambda: "resuming")
        begin = engine.run.Run._begin

        def note(run: Any, trainer: Any) -> None:
            self.phase = trainer.phase.name
            begin(run, trainer)

        engine.run.Run._begin = note  # type: ignore[method-assign]

    def watch(self, owner: Any, name: str, kind: Callable[[], str]) -> None:
        """Counts the calls of a function, and what happens in them, as moments of a kind."""
        real = getattr(owner, name)

        @functools.wraps(real)
        def call(*arguments: Any, **named: Any) -> Any:
            before = getattr(self.here, "kind", "")
            self.here.kind = kind()
            try:
                self.count()
                return real(*arguments, **named)
            finally:
                self.here.kind = before

        setattr(owner, name, call)

    def count(self) -> None:
        """A moment of the kind that this thread is in."""
        kind = getattr(self.here, "kind", "")
        if not kind:
            return
        self.counts[kind] += 1
        if kind == self.kind and self.counts[kind] == self.at:
            os.kill(os.getpid(), self.signal)
            time.sleep(0.6)  # a signal that can be minded is minded by another thread, here and now


@dataclass(frozen=True)
class Moment:
    """When a process is ended: at the n-th moment of a kind, or after so many seconds."""

    kind: str
    at: float

    def __str__(self) -> str:
        return f"{self.kind} {self.at:.2f} s" if self.timed else f"{self.kind} {self.at:.0f}"

    @property
    def timed(self) -> bool:
        return self.kind in (ANY, FRESH)


class Subject:
    """A run in a folder of its own, with its own store and cache."""

    def __init__(self, folder: Path, teachers: str, saving: str) -> None:
        self.folder = folder
        self.dir = RunDir(folder / "run")
        self.dir.path.mkdir(parents=True)
        write_whole(self.dir.preset, dump_preset(parse_preset(PRESET, "small.yaml", (TEACHERS[teachers], *SAVING[saving]))))

    def host(self, resume: bool, number: int, moment: Moment | None = None) -> int:
        """Lets a host begin or go on, ended at a moment by signal `number`: its exit code, or minus the signal that killed it."""
        arguments = [str(self.dir.path), *["--resume"] * resume]
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        child = os.fork()
        if child == 0:
            self._be_host(arguments, number, moment)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if moment is not None and moment.timed:
            time.sleep(moment.at)
            os.kill(child, number)  # nobody has waited for it yet: the number is still its own
        deadline = time.monotonic() + PATIENCE
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                raise SystemExit(f"a run in {self.folder} hangs since {PATIENCE:.0f} s ({moment})")
            time.sleep(0.01)
        return os.waitstatus_to_exitcode(ended[1])

    def _be_host(self, arguments: list[str], number: int, moment: Moment | None) -> None:
        """In the child; never returns."""
        code = 70
        try:
            os.setsid()
            console = os.open(self.folder / "console.txt", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            for stream in (1, 2):
                os.dup2(console, stream)
            own = {"MMKD_TEACHERS": "teachers", "MMKD_TEACHER_CACHE": "outputs", "MMKD_CACHE": "cache"}
            os.environ |= {name: str(self.folder / place) for name, place in own.items()}
            if moment is not None and moment.kind == FRESH:
                os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
                os.execv(sys.executable, [sys.executable, "-P", "-m", "engine.host", *arguments])
            wire = Tripwire(number)
            wire.arm(*("", 0) if moment is None or moment.timed else (moment.kind, int(moment.at)))
            code = host(arguments)
            (self.folder / "counts.json").write_text(json.dumps(wire.counts))
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def figures(self) -> dict[str, Any]:
        """All that must be the same however often the run was ended; an epoch that was told twice otherwise has two figures."""
        result = json.loads(self.dir.result.read_bytes())
        for name in ("run_dir", "seconds", "images_per_second"):
            del result[name]
        for teacher in result["teachers"]:
            del teacher["source"]  # trained by this process, or by the one before it
        figures = {"result": {json.dumps(result, sort_keys=True)}, "student": {_digest(self.dir.student)}}
        for path in sorted((self.folder / "teachers").glob("[0-9a-f]*/weights.safetensors")):
            figures[f"weights {path.parent.name}"] = {_digest(path)}
        for event in filter(None, map(from_line, self.dir.events.read_text().splitlines())):
            if isinstance(event, EpochEnded):
                name = f"{event.phase} {event.index} epoch {event.epoch}"
            elif isinstance(event, TeacherReady | StudentAloneReady):
                name = f"{event.kind} {getattr(event, 'index', '')}"
            else:
                continue
            told = {field: getattr(event, field) for field in event.__dataclass_fields__ if field not in ("t", "source")}
            figures.setdefault(name, set()).add(json.dumps(told, sort_keys=True))
        return figures

    def left_behind(self) -> list[str]:
        """What a finished run's folder should not hold."""
        partial = [path.name for path in self.dir.path.rglob(".*") if path.name.endswith((".partial", ".old"))]
        return [*partial, *(path.name for path in self.dir.checkpoints.glob("*") if not path.name.startswith("damaged-"))]


def _digest(path: Path) -> str:
    """Of a safetensors file, whose header has its entries in any order."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:end]), sort_keys=True)
    return hashlib.sha256(header.encode() + data[end:]).hexdigest()


@contextmanager
def kept_or_temporary(folder: Path | None) -> Iterator[Path]:
    """The folder to work in; one that nobody named is taken away afterwards."""
    if folder is None:
        memory = Path("/dev/shm")  # a killed process loses nothing that it had given to the system: no disk need be waited for
        with tempfile.TemporaryDirectory(prefix="mmkd-kill-", dir=memory if memory.is_dir() else None) as name:
            yield Path(name)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


class Trial:
    """Runs that are ended, beside runs that are not."""

    def __init__(self, folder: Path, number: int, seed: int) -> None:
        self.folder, self.number, self.seed = folder, number, seed
        self.expected: dict[str, dict[str, Any]] = {}
        self.counts: dict[tuple[str, str], dict[str, int]] = {}
        self.seconds = 0.0
        self.endings: Counter[str] = Counter()

    def left_alone(self, teachers: str, saving: str) -> None:
        """Makes sure that such a run that nobody ends is known; how it saves must not make a difference."""
        if (teachers, saving) in self.counts:
            return
        subject = Subject(self.folder / f"left alone, {teachers}, {saving}", teachers, saving)
        began = time.monotonic()
        if (code := subject.host(False, self.number)) != 0:
            raise SystemExit(f"the run in {subject.folder} that nobody ended exits with {code}")
        self.seconds = max(self.seconds, time.monotonic() - began)
        self.counts[teachers, saving] = json.loads((subject.folder / "counts.json").read_text())
        figures = subject.figures()
        if self.expected.setdefault(teachers, figures) != figures:
            raise SystemExit(f"two runs with teachers {teachers} differ though nobody ended them: see {self.folder}")

    def once(self, index: int) -> list[str]:
        """One run, ended at least once; what is wrong with it."""
        draw = random.Random(f"{self.seed} {index}")
        teachers, saving = draw.choice(list(TEACHERS)), draw.choice(list(SAVING))
        kind = FRESH if index % FRESH_ONE_IN == FRESH_ONE_IN - 1 else FIRST[index % len(FIRST)]
        if kind == "teacher cache":
            teachers = "cached"
        self.left_alone(teachers, saving)
        for attempt in range(10):
            subject = Subject(self.folder / f"{index}-{attempt}", teachers, saving)
            moments = [self._moment(draw, kind, teachers, saving)]
            if (wrong := self._ended(subject, False, moments[0])) is not None:
                break  # else it came too late
        else:
            return [f"{moments[0]} is never reached"]
        while wrong == "" and draw.random() < 0.5 and len(moments) < 4:
            moments.append(self._moment(draw, draw.choice(LATER), teachers, saving))
            wrong = self._ended(subject, True, moments[-1])
        problems = [wrong] if wrong else []
        if wrong == "" and (code := subject.host(True, self.number)) != 0:
            problems.append(f"it exits with {code}")
        if not problems:
            found = subject.figures()
            expected = self.expected[teachers]
            problems += [f"{name} differs" for name in {**expected, **found} if expected.get(name) != found.get(name)]
            problems += [f"{name} is left behind" for name in subject.left_behind()]
        said = f"{', then '.join(map(str, moments))} (teachers {teachers}, saved {saving})"
        print(f"{index + 1:3}  {said}: {'; '.join(problems) or 'the same'}", file=sys.stderr, flush=True)
        if not problems:
            shutil.rmtree(subject.folder)
        return problems

    def _moment(self, draw: random.Random, kind: str, teachers: str, saving: str) -> Moment:
        if kind == FRESH:
            return Moment(kind, draw.uniform(0.0, self.seconds + 8.0))
        if kind == ANY:
            return Moment(kind, draw.uniform(0.0, self.seconds))
        most = 12 if kind == "resuming" else self.counts[teachers, saving].get(kind, 1)
        return Moment(kind, draw.randint(1, most))

    def _ended(self, subject: Subject, resume: bool, moment: Moment) -> str | None:
        """Nothing where it was ended as it should have been; None where it was done before; else what is wrong."""
        code = subject.host(resume, self.number, moment)
        state = StateReader(subject.dir).read()
        if state == "finished":
            return None
        self.endings[moment.kind] += 1
        if code != (-signal.SIGKILL if self.number == signal.SIGKILL else 128 + self.number):
            return f"{moment}: it exits with {code}"
        return "" if state.resumable or not subject.dir.lock.exists() else f"{moment}: it is {state}, which is not resumable"


def main() -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description="A run ended by a signal and gone on with must end the same, to the bit.")
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="what came out as one object, on stdout")
    parser.add_argument("--folder", type=Path, help="an empty folder to work in, which is kept")
    chosen = parser.parse_args()
    began = time.monotonic()
    with kept_or_temporary(chosen.folder) as folder:
        trial = Trial(folder, signal.Signals[f"SIG{chosen.signal}"], chosen.seed)
        same = sum(not trial.once(index) for index in range(chosen.times))
    seconds = time.monotonic() - began
    if chosen.json:
        print(
            json.dumps(
                {"signal": chosen.signal, "runs": chosen.times, "same": same, "endings": trial.endings, "seconds": seconds}
            )
        )
    else:
        kinds = ", ".join(f"{kind} {trial.endings[kind]}" for kind in KINDS if trial.endings[kind])
        print(f"{same} of {chosen.times} runs ended the same, to the bit, as those that nobody ended, in {seconds:.0f} s")
        print(f"SIG{chosen.signal} came {trial.endings.total()} times: {kinds}")
    return 0 if same == chosen.times else 1


if __name__ == "__main__":
    sys.exit(main())
