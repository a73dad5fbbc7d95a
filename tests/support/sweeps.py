"""A sweep's folder with a run in each state, as `mmkd sweep` leaves them."""

from __future__ import annotations

import json
import time
from pathlib import Path

from engine.events import EpochEnded, Metrics, PhaseStarted, to_line
from engine.preset_yaml import dump_preset
from engine.run_dir import Lock, RunDir
from engine.sweeps.form import HalvingPart
from engine.sweeps.manifest import Listed, Manifest, write_manifest
from support.presets import tiny

EPOCHS = 30
RUNS = {  # by folder: label, state, epochs done, accuracy
    "a": ("lr=0.01 beta=10 s0", "done", 30, 0.9583),
    "b": ("lr=0.05 beta=10 s0", "done", 30, 0.9815),
    "c": ("lr=0.1 beta=10 s0", "stopped", 3, 0.61),
    "d": ("lr=0.2 beta=10 s0", "running", 12, 0.88),
    "e": ("lr=0.4 beta=10 s0", "failed", 0, None),
    "f": ("lr=0.01 beta=50 s0", "queue", 0, None),
    "g": ("lr=0.05 beta=50 s0", "teachers", 0, None),
    "h": ("lr=0.1 beta=50 s0", "queue", 0, None),
}


def some_sweep(runs: Path, runs_of: dict[str, tuple[str, str, int, float | None]] | None = None) -> tuple[Path, list[Lock]]:
    """The folder, and the locks of the runs that are at work in it as long as they are held."""
    path, locks = runs / "sweeps" / "lr-and-beta", []
    chosen = runs_of or RUNS
    listed = tuple(Listed(folder, label, EPOCHS) for folder, (label, *_) in chosen.items())
    write_manifest(Manifest(path, "lr-and-beta", "how fast, and how much of the features", HalvingPart(min_epochs=3), listed))
    for folder, (_, state, epochs, accuracy) in chosen.items():
        run_dir = RunDir(path / folder)
        run_dir.path.mkdir()
        run_dir.preset.write_text(dump_preset(tiny(f"train.epochs={EPOCHS}")))
        if state == "queue":
            continue
        lock = Lock(run_dir)
        run_dir.events.write_text("".join(_events(state, epochs, accuracy)))
        if state in ("done", "stopped", "failed"):
            result = {"state": state, "student_accuracy": None, "best_accuracy": accuracy, "seconds": 60.0}
            result |= {"student_accuracy": (accuracy or 0) - 0.012} if state == "done" else {"message": "it went wrong"}
            run_dir.result.write_text(json.dumps(result))
            lock.release()
        else:
            where = {"phase": "teacher", "step": 43, "steps": 100} if state == "teachers" else {}
            run_dir.heartbeat.write_text(json.dumps({"t": time.time(), "paused": False} | where))
            locks.append(lock)
    return path, locks


def _events(state: str, epochs: int, accuracy: float | None) -> list[str]:
    facts = {"index": 0, "lr": 0.1, "loss": 1.0, "ce": 1.0, "accuracy": 0.5}
    if state == "teachers":
        start = PhaseStarted(phase="teacher", index=0, label="", epochs=10, steps_per_epoch=10, parameters=1)
        return [to_line(start), to_line(Metrics(phase="teacher", epoch=4, step=43, steps=100, images_per_second=1.0, **facts))]  # type: ignore[arg-type]
    start = PhaseStarted(phase="distil", index=0, label="", epochs=EPOCHS, steps_per_epoch=10, parameters=1)
    done = (
        EpochEnded(phase="distil", epoch=n, step=n, measured_accuracy=accuracy, best_accuracy=accuracy, **facts)
        for n in range(epochs)
    )  # type: ignore[arg-type]
    return [to_line(start), *map(to_line, done)]
