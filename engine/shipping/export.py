"""From a run to a file for other programs: written aside, run beside the student, described, and only then put in its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from engine.architectures import library_of
from engine.data import AnySplit, Images
from engine.errors import UserError
from engine.models import Classifier
from engine.models.build import count_parameters
from engine.models.tapped import Tapped
from engine.plugins import recorded
from engine.preset import DatasetPart, Preset
from engine.result import result_from
from engine.run_dir import RunDir
from engine.shipping import hub, placing
from engine.shipping.card import Shown, card
from engine.shipping.evaluate import Say, opened_images
from engine.shipping.facts import ModelFacts
from engine.shipping.material import batches, drawn, spread
from engine.shipping.opening import CPU, Model, open_file, open_run
from engine.shipping.proof import BATCH, Proof, proven
from engine.shipping.quantize import CALIBRATION, DECIDING, Quantized, to_int8
from engine.shipping.runners import Ask, need_onnx, of_onnx
from engine.shipping.scores import scored
from engine.shipping.writers import FORMATS, as_onnx, as_program, as_safetensors
from engine.text import plain
from engine.untrusted import read_object
from engine.version import version, versions

IMAGES = 10_000  # test images that a file is held against the student on
_WRITERS: dict[str, Callable[[Classifier, ModelFacts], bytes]] = {
    "safetensors": as_safetensors,
    "onnx": as_onnx,
    "torch-export": as_program,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be written, and where."""

    format: str = "onnx"
    int8: bool = False
    output: Path | None = None  # None: in the run's folder
    hub: Path | None = None  # a folder in a hub's layout, in place of a file
    force: bool = False  # replace what is there
    images: int = IMAGES
    data: Path | None = None  # where the run's own pictures lie by now; None: where they were


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    path: Path
    card: Path
    format: str
    bytes: int
    proof: Proof
    quantized: Quantized | None
    timm: bool  # whether timm can load it

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        int8 = None
        if self.quantized is not None:
            lost = self.proof.student_accuracy - self.proof.accuracy
            int8 = {"way": self.quantized.way, "validation_accuracy": self.quantized.accuracies, "accuracy_lost": lost}
        return {
            "path": str(self.path),
            "card": str(self.card),
            "format": self.format,
            "bytes": self.bytes,
            "timm": self.timm,
            "verified": self.proof.to_json(),
            "int8": int8,
        }


def export_run(folder: Path, wanted: Wanted, data_root: Path, say: Say) -> Exported:
    """Exports a run's student. UserError where something is in the way; then nothing is written."""
    if wanted.int8 and (wanted.format != "onnx" or wanted.hub is not None):
        raise UserError("--quantize int8 is for ONNX; give --format onnx, or leave it out")
    if wanted.format == "onnx" and wanted.hub is None:
        need_onnx("onnx", "onnxscript", "onnxruntime")
    name = f"student{'-int8' if wanted.int8 else ''}{FORMATS[wanted.format]}"
    target = wanted.hub or wanted.output or folder / "export" / name
    beside = target / hub.CARD if wanted.hub else target.with_name(f"{target.name}.md")
    placing.refuse_existing(_targets(wanted, target, beside), wanted.force)
    model, preset = open_run(folder)
    model = replace(model, facts=_described(model.facts, preset))
    with opened_images(_dataset(preset, wanted.data), data_root, CPU, say) as images:
        if wanted.data is not None and images.facts.classes != model.facts.classes:
            raise UserError(
                f"--data {plain(str(wanted.data))} has other classes than {model.name} was trained on; name its own folder"
            )
        if wanted.hub is not None:
            return _hub(folder, wanted, target, model, preset, images)
        return _file(folder, wanted, target, beside, model, preset, images, say)


def _dataset(preset: Preset, data: Path | None) -> DatasetPart:
    """The run's, with all that decides how it is split."""
    part = preset.dataset
    if data is None:
        return part
    if part.path is None:
        raise UserError(f"--data is for pictures of your own; where {part.name} lies is said by --data-root")
    return part.model_copy(update={"path": str(data.expanduser().absolute())})


def _targets(wanted: Wanted, target: Path, beside: Path) -> tuple[Path, ...]:
    if wanted.hub is None:
        ending = FORMATS[wanted.format]
        if target.suffix != ending:
            raise UserError(f"-o {plain(str(target))}: a file of the format {wanted.format} ends with {ending}")
        return (target, beside)
    if target.exists() and not target.is_dir():
        raise UserError(f"{plain(str(target))} is a file; name a folder by --hub-layout")
    return tuple(target / name for name in (hub.WEIGHTS, hub.CONFIG, hub.CARD))


def _described(facts: ModelFacts, preset: Preset) -> ModelFacts:
    """With what it is of, so that the file alone tells it."""
    said = {
        **facts.said,
        "method": preset.method.name,
        "seed": str(preset.seed),
        "teachers": json.dumps(preset.teacher_labels),
        "mmkd": version(),
    }
    return replace(facts, said=said)


def _file(
    folder: Path, wanted: Wanted, target: Path, beside: Path, model: Model, preset: Preset, images: Images, say: Say
) -> Exported:
    assert model.network is not None
    with placing.workshop(target.parent) as bench:  # where nothing can be written, nothing is computed
        say(f"exporting {model.facts.arch} as {wanted.format} ...")
        data, quantized = _WRITERS[wanted.format](model.network, model.facts), None
        if wanted.int8:
            say("quantising to int8 ...")
            quantized = _quantized(data, model, images)
            data = quantized.data
        made = placing.write(bench / f"model{FORMATS[wanted.format]}", data)
        say("running what was written ...")
        ask = _read_back(made, wanted.format)
        proof = _prove(ask, model, images, wanted.images)
        if quantized is None:
            _refuse_other(proof, wanted.format)
        shown = _shown(folder, target.name, wanted.format, model, preset, proof, quantized)
        text = placing.write(bench / "card", card(shown))
        placing.put(made, target, wanted.force)
        placing.put(text, beside, wanted.force)
    return Exported(target, beside, wanted.format, len(data), proof, quantized, False)


def _read_back(made: Path, format: str) -> Ask:
    """By the program that others will use, from the file as it lies on the disk."""
    if format == "onnx":
        return of_onnx(made.read_bytes(), made.name)[0]
    return open_file(made, trust=True).ask  # a program of our own making


def _hub(folder: Path, wanted: Wanted, target: Path, model: Model, preset: Preset, images: Images) -> Exported:
    assert model.network is not None
    timm = library_of(model.facts.arch)[0] == "timm"
    with placing.workshop(target.parent) as bench:
        ask = hub.write_folder(bench, model.network, model.facts)
        proof = _prove(ask, model, images, wanted.images)
        _refuse_other(proof, "safetensors")
        kind, file = ("timm", f"{target.name}/") if timm else ("safetensors", hub.WEIGHTS)
        enlarged = model.network.size if timm and isinstance(model.network, Tapped) else None
        shown = replace(_shown(folder, file, kind, model, preset, proof, None), hub=True, enlarged=enlarged)
        placing.write(bench / hub.CARD, card(shown))
        size = (bench / hub.WEIGHTS).stat().st_size
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in (hub.WEIGHTS, hub.CONFIG, hub.CARD):
            placing.put(bench / name, target / name, wanted.force)
    return Exported(target, target / hub.CARD, "safetensors", size, proof, None, timm)


def _prove(ask: Ask, model: Model, images: Images, most: int) -> Proof:
    return proven(ask, model.ask, spread(images.test, most or len(images.test)), model.facts.preprocessing)


def _refuse_other(proof: Proof, format: str) -> None:
    if not proof.same:
        raise UserError(
            f"what was written as {format} does not say what the student says: logits differ by {proof.difference:.3g} where the "
            f"largest is {proof.largest:.3g}; nothing is kept. Please report it, and use another --format"
        )


def _quantized(data: bytes, model: Model, images: Images) -> Quantized:
    prepared = model.facts.preprocessing

    def collected(split: AnySplit) -> list[torch.Tensor]:
        return [batch.images for batch in batches(split, prepared, BATCH)]

    calibration = collected(drawn(images.train, CALIBRATION, "int8 calibration"))
    deciding = spread(images.validation, DECIDING)
    held = collected(deciding)

    def accuracy(content: bytes) -> float:
        ask, _, _ = of_onnx(content, "the int8 model")
        return scored(torch.cat([ask(batch) for batch in held]), deciding.labels.cpu()).top1

    return to_int8(data, calibration, accuracy)


def _shown(folder: Path, file: str, kind: str, model: Model, preset: Preset, proof: Proof, quantized: Quantized | None) -> Shown:
    assert model.network is not None
    return Shown(
        file=file,
        kind=kind,
        facts=model.facts,
        preset=preset,
        parameters=count_parameters(model.network),
        proof=proof,
        result=result_from(read_object(RunDir(folder).result) or {}),
        versions=versions(),
        int8=quantized.way if quantized else "",
        plugins=tuple(recorded(RunDir(folder).meta)),
    )
