"""What a viewer costs and how fast it answers, measured through a real pseudo-terminal, with quickstart training beside it.

    python benchmarks/viewer.py [PRESSES]      PRESSES 0: only the million events

First screen of `mmkd tui`; key press to screen while a run trains; following a million events, and opening them.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support.terminal import Terminal

from engine.event_writer import LIMIT
from engine.events import EpochEnded, Event, Metrics, PhaseStarted, RunStarted, to_line
from engine.preset_yaml import dump_preset, find_preset, load_preset
from engine.run_client import DirectoryClient
from engine.run_dir import RunDir
from engine.spawning import spawn
from engine.thinning import thin

EVENTS = 1_000_000
PER_EPOCH = 1000
EPOCH, STEP, LOSS, NUMBER = 777_777_771, 777_777_772, 0.777777773, 777_777_774  # stand for numbers that are put in later
ASKED = {  # a key, its name, and what stands on the screen only after it
    "?": ("help", "Hold the run between two steps"),
    "w": ("weights by class", "weights by class"),
    "l": ("log", "\u2500 log \u2500"),
    "y": ("logarithmic axis", "log y"),
    "m": ("smoothed curves", "smooth 0.9"),
}


def first_screen() -> None:
    times = []
    for _ in range(7):
        started = time.monotonic()
        terminal = Terminal("tui")
        terminal.wait("quickstart", "fashion-mnist")
        times.append(time.monotonic() - started)
        terminal.end()
    print(f"first screen of mmkd tui: median {statistics.median(times):.2f} s of {len(times)}")


def key_latency(presses: int) -> None:
    """From the key's byte to the first bytes that show what the key asks for: other changes on the screen do not count."""
    # As quickstart trains, which is too short to be compiled, but without an end.
    overrides = ["train.epochs=100000", "evaluate.student_alone=false", "teachers.*.train.epochs=1", "hardware.compile=off"]
    run = spawn(load_preset(find_preset("quickstart"), overrides), Path("runs"))
    client = DirectoryClient(run)
    while not any(isinstance(e, Metrics) and e.phase == "distil" for e in client.poll()):
        time.sleep(0.1)
    terminal = Terminal("attach", run.name)
    terminal.wait("running", "hard buffer")
    terminal.type("l")  # hidden: each key now shows something, and takes it away when it is pressed again
    chance = random.Random(0)  # the viewer looks at the run four times a second: keys come at any moment between
    pause(chance)
    found: list[float] = []
    for key, (name, shows) in ASKED.items():
        times = []
        for _ in range(presses):
            mark = terminal.mark()
            started = time.monotonic()
            terminal.type(key)
            while shows not in terminal.text(mark):
                assert time.monotonic() - started < 10, f"{key} does not show {shows}"
                time.sleep(0.001)
            times.append((time.monotonic() - started) * 1000)
            pause(chance)
            terminal.type(key)
            pause(chance)
        print(f"  {key}  {name:18} {told(times)}")
        found += times
    print(f"key to screen while it trains, {len(found)} presses: {told(found)}")
    terminal.end()
    client.request("stop")
    while client.state().live:
        time.sleep(0.1)


def pause(chance: random.Random) -> None:
    time.sleep(chance.uniform(0.3, 0.7))


def told(times: list[float]) -> str:
    """Milliseconds. The 99th percentile is the smallest time that 99 % of the presses kept."""
    ranked = sorted(times)
    ninety_ninth = ranked[math.ceil(0.99 * len(ranked)) - 1]
    return f"median {statistics.median(ranked):.0f} ms, p99 {ninety_ninth:.0f} ms, longest {ranked[-1]:.0f} ms"


def million_events() -> None:
    """A viewer that follows a million events as they are written, and one that comes when all are there."""
    run = LongRun(Path("runs") / "million")
    run.write(1000)
    follower = Terminal("attach", "million")
    follower.wait("million", "loss")
    complete(follower)
    before = resident(follower.pid)
    print(f"viewer's memory after a thousand events: {before:.0f} MB")
    run.write(EVENTS)
    run.end()
    complete(follower)
    print(
        f"after it has followed {EVENTS:,}: {resident(follower.pid) - before:+.0f} MB; the file was thinned {run.thinned} times"
    )
    follower.end()
    started = time.monotonic()
    terminal = Terminal("attach", "million")
    terminal.wait("million", "loss")
    first = time.monotonic() - started
    whole = complete(terminal) - started
    megabytes = run.dir.events.stat().st_size / 1e6
    print(
        f"{EVENTS:,} events (now {megabytes:.0f} MB): first picture {first:.1f} s, complete {whole:.1f} s, "
        f"of the processor's time {processor(terminal.pid):.1f} s"
    )
    print(f"memory of a viewer that came then, beside the first: {resident(terminal.pid) - before:+.0f} MB")
    terminal.end()


def complete(terminal: Terminal) -> float:
    """The moment of the last thing drawn: nothing came for two seconds. While it reads, a viewer draws twice a second."""
    quiet, size = time.monotonic(), terminal.mark()
    while time.monotonic() - quiet < 2.0:
        time.sleep(0.05)
        if terminal.mark() != size:
            size, quiet = terminal.mark(), time.monotonic()
    return quiet


def processor(pid: int) -> float:
    """Seconds that a process has had of it: on a busy machine, all that can be told."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """MB."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class LongRun:
    """The folder of a distillation of `EVENTS` steps, whose events are written faster than any run writes them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.dir, self.step, self.thinned = RunDir(folder), 0, 0
        preset = load_preset(find_preset("quickstart"))
        self.dir.preset.write_text(dump_preset(preset))
        start = RunStarted(
            name=folder.name,
            run_dir=str(folder),
            dataset="digits",
            classes=tuple("0123456789"),
            teachers=preset.teacher_labels,
            student="resnet8",
            method="mmkd",
            device="cpu",
            seed=0,
        )
        phase = PhaseStarted(
            phase="distil", index=0, label="resnet8 by mmkd", epochs=EVENTS // PER_EPOCH, steps_per_epoch=PER_EPOCH, parameters=1
        )
        weights = (0.25, 0.45, 0.3)
        shared = {
            "phase": "distil", "index": 0, "epoch": EPOCH, "step": STEP, "lr": 0.05, "loss": LOSS, "ce": 0.5, "logit": 1.5,
            "feature": 1.0, "accuracy": 0.9, "logit_weights": weights, "logit_spread": (0.01, 0.02, 0.03),
            "feature_weights": weights, "feature_spread": (0.01, 0.02, 0.03), "outer_loss": 1.0, "hard_accuracy": 0.8,
            "logit_gradient": 0.1, "feature_gradient": 0.1,
        }  # fmt: skip
        self.metrics = pattern(Metrics(**shared, steps=EVENTS, images_per_second=1000.0))
        self.ended = pattern(EpochEnded(**shared, measured_accuracy=0.9, best_accuracy=0.9))
        self.dir.events.write_text(to_line(start, 0) + to_line(phase, 1))

    def write(self, until: int) -> None:
        """Up to step `until`; the file is thinned as a run's is."""
        file = self.dir.events.open("ab")
        size = file.tell()
        for step in range(self.step + 1, until + 1):
            shape = self.ended if step % PER_EPOCH == 0 else self.metrics
            line = (shape % (step + 1, (step - 1) // PER_EPOCH, step, 5 - 4 * step / EVENTS)).encode()
            if size + len(line) > LIMIT:
                file.close()
                aside = self.dir.path / "aside"
                with self.dir.events.open("rb") as source, aside.open("wb") as target:
                    thin(source, target, LIMIT)
                aside.replace(self.dir.events)
                self.thinned += 1
                file = self.dir.events.open("ab")
                size = file.tell()
            file.write(line)
            size += len(line)
        file.close()
        self.step = until

    def end(self) -> None:
        """It was stopped."""
        content = {"state": "stopped", "name": self.dir.path.name, "run_dir": str(self.dir.path)}
        self.dir.result.write_text(json.dumps(content))


def pattern(event: Event) -> str:
    """Its line with holes for number, epoch, step and loss: a million of these take seconds, a million events minutes."""
    line = to_line(event, NUMBER).replace("%", "%%").replace(str(NUMBER), "%d", 1)
    return line.replace(str(EPOCH), "%d", 1).replace(str(STEP), "%d", 1).replace(str(LOSS), "%.6f", 1)


def main() -> None:
    sys.stdout.reconfigure(line_buffering=True)
    home = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ |= {"PYTHONPATH": str(home), "MMKD_CONFIG": folder, "MMKD_TEACHERS": str(Path(folder) / "teachers")}
        if sys.argv[1:] != ["0"]:
            first_screen()
            key_latency(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
        million_events()


if __name__ == "__main__":
    main()
