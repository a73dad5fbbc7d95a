"""A finished run's folder, written as a run would, without the training."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from engine.events import EpochEnded, Log, Metrics, PhaseStarted, RunEnded, RunStarted, StudentAloneReady, TeacherReady, to_line
from engine.preset import Preset
from engine.preset_yaml import dump_preset
from engine.result import Result, TeacherResult

EPOCHS, STEPS = 6, 10


def write_finished(folder: Path, preset: Preset, classes: tuple[str, ...], *, student: float = 0.9, ended: bool = True) -> Path:
    """MMKD by `preset`: the weights move from equal ones to the last teacher; the first is trusted on the first class."""
    labels = preset.teacher_labels
    count = len(labels)

    def weights(epoch: int, first: bool = False) -> tuple[float, ...]:
        share = 1 / count + (1 - 1 / count) * 0.5 * (epoch + 1) / EPOCHS
        own = [(1 - share) / (count - 1)] * count
        own[0 if first else -1] = share
        return tuple(own)

    events = [
        RunStarted(
            name=preset.name, run_dir=str(folder), dataset=preset.dataset.name, classes=classes, teachers=labels,
            student=preset.student.arch, method="mmkd", device="cpu (1 thread)", seed=preset.seed,
        )
    ]  # fmt: skip
    events += [TeacherReady(index=n, label=label, accuracy=0.95 + n / 1000, source="store") for n, label in enumerate(labels)]
    events.append(StudentAloneReady(accuracy=0.85, source="store"))
    events.append(Log(level="warning", message="[red]a warning[/red] \x1b[31m<b>of its own</b>"))
    events.append(
        PhaseStarted(phase="distil", index=0, label="the student", epochs=EPOCHS, steps_per_epoch=STEPS, parameters=1000)
    )
    for epoch in range(EPOCHS):
        for step in range(1, STEPS + 1):
            done = epoch * STEPS + step
            shared = {
                "phase": "distil", "index": 0, "epoch": epoch, "step": done, "lr": 0.1, "loss": 3 / done, "ce": 1 / done,
                "logit": 1 / done, "feature": 1 / done, "accuracy": 1 - 1 / (done + 1), "logit_weights": weights(epoch),
                "logit_spread": (0.1,) * count, "feature_weights": weights(epoch), "feature_spread": (0.1,) * count,
                "outer_loss": 1.0, "hard_accuracy": 0.3, "logit_gradient": 0.1 / done, "feature_gradient": 0.01 / done,
            }  # fmt: skip
            events.append(Metrics(**shared, steps=EPOCHS * STEPS, images_per_second=1000.0))
        table = tuple(weights(epoch, number == 0) for number in range(len(classes)))
        events.append(
            EpochEnded(
                **shared, logit_weights_by_class=table, feature_weights_by_class=table,
                measured_accuracy=0.5 + epoch / 20, best_accuracy=0.5 + epoch / 20, best_epoch=epoch,
            )
        )  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "preset.yaml").write_text(dump_preset(preset))
    (folder / "engine.lock").touch()
    if ended:
        events.append(RunEnded(state="done"))
        teachers = tuple(
            TeacherResult(label, 0.95, "store", logit_weight=weight, feature_weight=weight)
            for label, weight in zip(labels, weights(EPOCHS - 1), strict=True)
        )
        result = Result(
            str(folder), "done", name=preset.name, method="mmkd", seed=preset.seed, student_accuracy=student,
            student_alone_accuracy=0.85, ensemble_accuracy=0.96, teachers=teachers, best_epoch=EPOCHS - 1, best_accuracy=0.75,
            seconds=61.0, images_per_second=1000.0, versions={"torch": "2.14"},
        )  # fmt: skip
        (folder / "result.json").write_text(json.dumps(asdict(result)))
    (folder / "events.jsonl").write_text("".join(map(to_line, events)))
    return folder
