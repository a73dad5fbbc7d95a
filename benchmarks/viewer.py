"""What a viewer costs and how fast it answers, measured through a real pseudo-terminal, with quickstart training beside it.

    python benchmarks/viewer.py

First screen of `mmkd tui`; key press to screen while a run trains; opening a run of a million events, and the viewer's memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support.terminal import Terminal

from engine.control import Command
from engine.events import EpochEnded, Metrics, PhaseStarted, RunStarted, to_line
from engine.preset_yaml import dump_preset, find_preset, load_preset
from engine.run_client import DirectoryClient, spawn

PRESSES = 100
EVENTS = 1_000_000


def first_screen() -> None:
    times = []
    for _ in range(7):
        started = time.monotonic()
        terminal = Terminal("tui")
        terminal.wait("quickstart", "fashion-mnist")
        times.append(time.monotonic() - started)
        terminal.end()
    print(f"first screen of mmkd tui: median {statistics.median(times):.2f} s of {len(times)}")


def key_latency() -> None:
    """From the key's byte to the first byte of the screen that it opens; `?` opens the help and closes it."""
    overrides = ["train.epochs=100000", "evaluate.student_alone=false", "teachers.*.train.epochs=1"]
    run = spawn(load_preset(find_preset("quickstart"), overrides), Path("runs"))
    client = DirectoryClient(run)
    while not any(isinstance(e, Metrics) and e.phase == "distil" for e in client.poll()):
        time.sleep(0.1)
    terminal = Terminal("attach", run.name)
    terminal.wait("running")
    times = []
    for _ in range(PRESSES):
        mark = terminal.mark()
        started = time.monotonic()
        terminal.type("?")
        while "Hold the run between two steps" not in terminal.text(mark):
            assert time.monotonic() - started < 10, terminal.text(mark)
            time.sleep(0.001)
        times.append((time.monotonic() - started) * 1000)
        terminal.type("?")
        time.sleep(0.5)
    times.sort()
    print(f"key to screen while it trains, {PRESSES} presses: median {statistics.median(times):.0f} ms, p99 {times[-2]:.0f} ms")
    terminal.end()
    stop: Command = "stop"
    client.request(stop)


def million_events() -> None:
    run = Path("runs") / "million"
    write_run(run)
    started = time.monotonic()
    terminal = Terminal("attach", "million")
    terminal.wait("million", "loss")
    first = time.monotonic() - started
    while "reading" in terminal.text()[-4000:]:
        time.sleep(0.05)
    quiet = time.monotonic()
    size = terminal.mark()
    while time.monotonic() - quiet < 1.5:  # complete when nothing more is drawn
        time.sleep(0.05)
        if terminal.mark() != size:
            size, quiet = terminal.mark(), time.monotonic()
    megabytes = (run / "events.jsonl").stat().st_size >> 20
    print(f"{EVENTS:,} events ({megabytes} MB): first picture {first:.1f} s, complete {quiet - started:.1f} s")
    before = resident(terminal.pid)
    print(f"viewer's memory after them: {before:.0f} MB")
    terminal.end()
    few = Path("runs") / "few"
    write_run(few, 1000)
    terminal = Terminal("attach", "few")
    terminal.wait("few", "loss")
    time.sleep(3)
    print(f"viewer's memory after a thousand: {resident(terminal.pid):.0f} MB")
    terminal.end()


def resident(pid: int) -> float:
    """MB."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def write_run(folder: Path, count: int = EVENTS) -> None:
    """A finished run's folder with `count` events of a distillation."""
    folder.mkdir(parents=True)
    preset = load_preset(find_preset("quickstart"))
    (folder / "preset.yaml").write_text(dump_preset(preset))
    labels, per_epoch = preset.teacher_labels, 1000
    epochs = max(count // per_epoch, 1)
    start = RunStarted(
        name=folder.name,
        run_dir=str(folder),
        dataset="digits",
        classes=tuple("0123456789"),
        teachers=labels,
        student="resnet8",
        method="mmkd",
        device="cpu",
        seed=0,
    )
    phase = PhaseStarted(phase="distil", index=0, label="resnet8 by mmkd", epochs=epochs, steps_per_epoch=per_epoch, parameters=1)
    with (folder / "events.jsonl").open("w") as file:
        file.write(to_line(start) + to_line(phase))
        for step in range(1, epochs * per_epoch + 1):
            share = step / (epochs * per_epoch)
            kind = EpochEnded if step % per_epoch == 0 else Metrics
            fields = {"measured_accuracy": share, "best_accuracy": share} if kind is EpochEnded else {"steps": epochs * per_epoch}
            if kind is Metrics:
                fields["images_per_second"] = 1000.0
            weights = (0.2 + share / 3, 0.5 - share / 3, 0.3)
            file.write(
                to_line(
                    kind(
                        phase="distil",
                        index=0,
                        epoch=(step - 1) // per_epoch,
                        step=step,
                        lr=0.05,
                        loss=5 - 4 * share,
                        ce=1 - share,
                        logit=2 - share,
                        feature=1.0,
                        accuracy=share,
                        logit_weights=weights,
                        logit_spread=(0.01, 0.02, 0.03),
                        feature_weights=weights,
                        feature_spread=(0.01, 0.02, 0.03),
                        outer_loss=1.0,
                        hard_accuracy=share,
                        logit_gradient=0.1,
                        feature_gradient=0.1,
                        **fields,
                    )
                )
            )
    (folder / "result.json").write_text(json.dumps({"state": "stopped", "name": folder.name, "run_dir": str(folder)}))


def main() -> None:
    home = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ |= {"PYTHONPATH": str(home), "MMKD_CONFIG": folder, "MMKD_TEACHERS": str(Path(folder) / "teachers")}
        first_screen()
        key_latency()
        million_events()


if __name__ == "__main__":
    main()
