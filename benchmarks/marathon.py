"""A week in fast motion: a run of a million steps, each with its event, and what it leaves of memory, handles and disk.

    python benchmarks/marathon.py [--steps 1000000] [--json]

The run is a real one: its own process, its own folder, the real trainer; only its networks and its method are stubs
(marathon_stub.py). A viewer is attached on a pseudo-terminal all the time, a second one at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support.terminal import Terminal

from engine.plugins import load_plugin
from engine.preset_yaml import parse_preset
from engine.run_client import DirectoryClient
from engine.run_dir import RunDir
from engine.spawning import spawn
from mmkd_tui.follow import Follower

HOME = Path(__file__).parents[1]
STEPS_PER_EPOCH = 270  # of the digits, four a batch
PRESET = """
name: marathon
dataset: {{name: digits}}
teachers:
  - {{arch: stub, seed: 0, train: {{epochs: 1, batch_size: 32}}}}
  - {{arch: stub, seed: 1, train: {{epochs: 1, batch_size: 32}}}}
student: {{arch: stub}}
method: {{name: aver}}
train: {{epochs: {epochs}, batch_size: 4, augment: false}}
evaluate: {{every: 4, student_alone: false, accept_weak_teachers: true}}
hardware: {{device: cpu, compile: off, threads: 1, precision: fp32}}
"""
EVERY = 2.0  # seconds between two samples
WARM = 0.1  # of the run; growth is counted from there


@dataclass(slots=True)
class Process:
    """What was seen of a process."""

    pid: int
    megabytes: list[float] = field(default_factory=list)
    handles: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def sample(self) -> None:
        """Looks, and keeps what it sees."""
        base = Path(f"/proc/{self.pid}")
        with contextlib.suppress(OSError):
            pages = int((base / "statm").read_text().split()[1])
            handles, threads = len(list((base / "fd").iterdir())), len(list((base / "task").iterdir()))
            self.megabytes.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
            self.handles.append(handles)
            self.threads.append(threads)

    def now(self) -> str:
        """The newest sample."""
        return f"{self.megabytes[-1]:.0f} MB, {self.handles[-1]} handles, {self.threads[-1]} threads" if self.handles else ""

    def told(self) -> dict[str, float]:
        """In the first and in the last tenth of what was sampled: the medians, so that a moment's peak does not count."""
        tenth = max(len(self.handles) // 10, 1)
        first, last = slice(0, tenth), slice(-tenth, None)
        return {
            "megabytes_warm": round(statistics.median(self.megabytes[first]), 1),
            "megabytes_end": round(statistics.median(self.megabytes[last]), 1),
            "megabytes_most": round(max(self.megabytes), 1),
            "handles_warm": statistics.median(self.handles[first]),
            "handles_end": statistics.median(self.handles[last]),
            "handles_most": max(self.handles),
            "threads_warm": statistics.median(self.threads[first]),
            "threads_end": statistics.median(self.threads[last]),
            "threads_most": max(self.threads),
        }


@dataclass(slots=True)
class Sizes:
    """The largest that was seen of the run's files, bytes; and how often its events were thinned."""

    events: int = 0
    console: int = 0
    thinned: int = 0
    last: int = 0

    def sample(self, run: RunDir) -> None:
        """Looks, and keeps what it sees."""
        size = run.events.stat().st_size
        self.thinned += size < self.last
        self.last, self.events = size, max(self.events, size)
        both = [path.stat().st_size for path in (run.console, run.console_before) if path.exists()]
        self.console = max(self.console, sum(both))


def marathon(steps: int) -> dict[str, Any]:
    """The figures of a run of about so many steps, in the current folder."""
    epochs = max(steps // STEPS_PER_EPOCH, 1)
    steps = epochs * STEPS_PER_EPOCH
    os.environ["MARATHON_STEPS"] = str(steps)
    load_plugin(HOME / "benchmarks" / "marathon_stub.py")
    began = time.monotonic()
    path = spawn(parse_preset(PRESET.format(epochs=epochs), "marathon.yaml"), Path("runs"))
    run, client, sizes = RunDir(path), DirectoryClient(path), Sizes()
    while step_of(run) == 0:
        assert client.state().live, client.console_tail()
        time.sleep(0.2)
    host = Process(json.loads(run.heartbeat.read_text())["pid"])
    terminal = Terminal("attach", path.name)
    terminal.wait("running", "loss", seconds=300)
    viewer = Process(terminal.pid)
    key_warm: list[float] = []
    key_end: list[float] = []
    while client.state().live and step_of(run) < steps:
        time.sleep(EVERY)
        sizes.sample(run)
        share = step_of(run) / steps
        if share > WARM:
            host.sample()
            viewer.sample()
            key_warm = key_warm or keys(terminal)
        if share > 0.95:
            key_end = key_end or keys(terminal)
            host.sample()  # after them, too
            viewer.sample()
        seen = [f"{process.pid} {process.now()}" for process in (host, viewer)]
        say(f"{share:6.1%} {time.monotonic() - began:6.0f} s  events {sizes.last / 1e6:.1f} MB  {'  '.join(seen)}")
        terminal.forget()
    while client.state().live:
        time.sleep(0.1)
    sizes.sample(run)
    seconds = time.monotonic() - began
    began = time.monotonic()
    second = Terminal("attach", path.name)
    second.wait("finished", "total 1.0", seconds=300)  # the last loss, in the legend of a chart
    attached = time.monotonic() - began
    processor = processor_seconds(second.pid)
    second.end()
    figures = {
        "steps": steps,
        "seconds": round(seconds),
        "state": str(client.state()),
        "events_largest_mb": round(sizes.events / 1e6, 1),
        "events_thinned": sizes.thinned,
        "console_largest_mb": round(sizes.console / 1e6, 1),
        "folder_mb": round(sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6, 1),
        "host": host.told(),
        "viewer": viewer.told(),
        "key_warm_ms": round(statistics.median(key_warm)),
        "key_end_ms": round(statistics.median(key_end)) if key_end else None,
        "second_viewer_seconds": round(attached, 2),
        "second_viewer_processor_seconds": round(processor, 2),
        "load": round(os.getloadavg()[0], 1),
        "curve": asdict(curve(path, steps)),
    }
    terminal.end()
    return figures


@dataclass(frozen=True, slots=True)
class Curve:
    """What a viewer that comes at the end has of the loss, beside what it was: 4 - 3 x / epochs, and a peak."""

    seconds: float  # to read all of it, and of the processor's time
    processor_seconds: float
    points: int
    first: float  # x, as a share of the whole
    last: float
    widest: float  # gap between two points' x, as a share of the whole
    furthest: float  # from what the loss was
    peak: float  # the highest loss
    epochs: int  # whose ends are in the file
    epochs_expected: int


def curve(path: Path, steps: int) -> Curve:
    """Reads a run as a viewer does."""
    began, processor = time.monotonic(), time.process_time()
    follower = Follower(DirectoryClient(path))
    while follower.reading:
        follower.step(0.1)
    took = time.monotonic() - began, time.process_time() - processor
    assert follower.curves.now is not None
    series = follower.curves.now.loss["total"]
    epochs = steps / STEPS_PER_EPOCH
    columns = series.sampled(200, 0.0, epochs)
    off = [abs(column.mean - (4 - 3 * (number + 0.5) / 200)) for number, column in enumerate(columns) if column.high < 5]
    places = list(series.places())
    gaps = [later - earlier for earlier, later in pairwise(places)]
    with (path / "events.jsonl").open("rb") as file:
        ends = sum(b'"phase":"distil"' in line for line in file if line.startswith(b'{"kind":"epoch_ended"'))
    return Curve(
        round(took[0], 2),
        round(took[1], 2),
        len(series),
        places[0] / epochs,
        places[-1] / epochs,
        max(gaps) / epochs,
        max(off, default=9.9),
        series.highest() or 0.0,
        ends,
        round(epochs),
    )


def keys(terminal: Terminal, presses: int = 15) -> list[float]:
    """Milliseconds from a key to what it asks for."""
    times = []
    for _ in range(presses):
        mark, began = terminal.mark(), time.monotonic()
        terminal.type("?")
        while "Hold the run between two steps" not in terminal.text(mark):
            assert time.monotonic() - began < 60, "no answer"
            time.sleep(0.001)
        times.append((time.monotonic() - began) * 1000)
        time.sleep(0.3)
        terminal.type("?")
        time.sleep(0.5)
    return times


def processor_seconds(pid: int) -> float:
    """That a process has had: on a busy machine this tells more than the clock."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def say(line: str) -> None:
    """To people."""
    print(f"{line}  load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)


def step_of(run: RunDir) -> int:
    """Of the distillation, as the heartbeat tells."""
    try:
        beat = json.loads(run.heartbeat.read_text())
    except (OSError, ValueError):
        return 0
    return int(beat["step"]) if beat["phase"] == "distil" else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ |= {"PYTHONPATH": str(HOME), "MMKD_CONFIG": folder, "MMKD_TEACHERS": str(Path(folder) / "teachers")}
        figures = marathon(chosen.steps)
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:22} {value}")


if __name__ == "__main__":
    main()
