"""A model to be asked: a run's student, or a file of any format, with what it says of itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from torch import Tensor

from engine import plugins
from engine.architectures import is_architecture, library_of
from engine.errors import AwayError, UserError
from engine.models import Classifier, build_model
from engine.models.library import meant_by
from engine.pictures import BrokenPictureError, decode
from engine.preset import Preset
from engine.preset_yaml import load_recorded
from engine.run_dir import RunDir
from engine.shipping.facts import ModelFacts, facts_from
from engine.shipping.runners import Ask, Logits, is_program, of_module, of_onnx, of_program, room_on
from engine.teachers.foreign import load_fitting
from engine.tensor_header import CUT_SHORT, HUB_WEIGHTS, is_cut_short
from engine.text import one_line, plain
from engine.untrusted import open_regular

CPU = torch.device("cpu")
BATCH = 64  # pictures that are asked about at a time
Assume = Callable[[], ModelFacts]  # what a data set says where a file says nothing


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model says of one picture: the likeliest classes, (number, name, probability); or why it cannot be read."""

    path: Path
    top: tuple[tuple[int, str, float], ...] = ()
    width: int = 0
    height: int = 0
    broken: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be asked. `ask`: normalised images [B, channels, H, W] -> logits [B, C] on the CPU."""

    name: str  # of its run or file
    kind: str  # "run", "safetensors", "onnx", "torch-export" or "checkpoint"
    facts: ModelFacts
    ask: Ask
    assumed: bool = False  # whether the facts are a data set's, since the file says nothing
    network: Classifier | None = field(default=None, repr=False)
    device: torch.device = CPU

    def logits(self, pixels: Tensor) -> Tensor:
        """uint8 [B, channels, size, size] -> [B, C]. UserError where there are not as many as there are classes."""
        found = self.ask(torch.from_numpy(self.facts.preprocessing.normalised(pixels.cpu().numpy())))
        return self.checked(found)

    def checked(self, logits: Tensor) -> Tensor:
        """The same logits. UserError where they are not those of these classes."""
        wanted = len(self.facts.classes)
        if logits.dim() != 2 or logits.shape[1] != wanted:
            shape = "x".join(map(str, logits.shape[1:]))
            raise UserError(f"{self.name} gives {shape} logits an image, not {wanted} for as many classes; name its data set")
        return logits

    def predict(self, paths: Sequence[Path], top: int = 5) -> Iterator[Seen]:
        """What it says of each picture, in their order; one that cannot be read is told, and the others go on."""
        for start in range(0, len(paths), BATCH):
            yield from self._predict(paths[start : start + BATCH], top)

    def _predict(self, paths: Sequence[Path], top: int) -> Iterator[Seen]:
        found: list[Seen | None] = []
        arrays, sizes = [], []
        for path in paths:
            try:
                picture = decode(str(path))
                arrays.append(self.facts.preprocessing.pixels(picture))
                sizes.append(picture.size)
                found.append(None)
            except BrokenPictureError as error:
                found.append(Seen(path, broken=str(error)))
            except AwayError as error:
                found.append(Seen(path, broken=error.why))
        answers: Iterator[tuple[list[int], list[float], tuple[int, int]]] = iter(())
        if arrays:
            probabilities = self.logits(torch.from_numpy(np.stack(arrays))).softmax(1)
            best = probabilities.topk(min(top, probabilities.shape[1]), 1)
            answers = iter(zip(best.indices.tolist(), best.values.tolist(), sizes, strict=True))
        for path, known in zip(paths, found, strict=True):
            if known is not None:
                yield known
                continue
            numbers, shares, (width, height) = next(answers)
            names = [self.facts.classes[number] for number in numbers]
            yield Seen(path, tuple(zip(numbers, names, shares, strict=True)), width, height)


def open_run(folder: Path, device: torch.device = CPU) -> tuple[Model, Preset]:
    """A run's student, its best so far, and the preset. UserError where there is none yet, or the files are not a run's."""
    run = RunDir(folder)
    preset = load_recorded(run.preset)
    if preset.only_teachers:
        raise UserError(f"{plain(str(folder))} has no student: it trained teachers alone; mmkd teachers list shows them")
    if not run.student.is_file():
        raise UserError(f"{plain(str(folder))} has no student yet: its distillation has not ended an epoch; look again later")
    metadata = _header(run.student)
    facts = facts_from(metadata, str(run.student))
    if facts is None:
        raise UserError(f"{run.student} says nothing of classes and pictures; it is not as a run writes it")
    part = preset.student
    if facts.arch != part.arch:
        raise UserError(f"{run.student} is of {facts.arch}, but preset.yaml names {part.arch}; one of them is another run's")
    if not is_architecture(part.arch):
        raise UserError(f"the student of {plain(str(folder))}: {plugins.missing(part.arch, run.meta)}")
    network = _network(run.student, part.arch, facts, part.features, device)
    said = {"run": folder.resolve().name, "epoch": one_line(metadata.get("epoch", ""), 20)}
    facts = replace(facts, features=part.features, said=said, split_seed=preset.dataset.split_seed)
    ask = of_module(Logits(network), device)
    return Model(folder.resolve().name, "run", facts, ask, network=network, device=device), preset


def open_file(
    path: Path,
    *,
    arch: str | None = None,
    assume: Assume | None = None,
    device: torch.device = CPU,
    trust: bool = False,
) -> Model:
    """A model file: safetensors, ONNX, torch.export's, or a checkpoint of another program; or a folder as hubs have them.

    `arch`: of weights that do not say theirs; `assume` says what classes and pictures are where the file does not. A file of
    torch.export is a program, and is run only if it is to be trusted (`trust`). UserError where it cannot be used.
    """
    shown = plain(str(path))
    if path.is_dir():
        weights = path / HUB_WEIGHTS
        if not weights.is_file():
            raise UserError(f"{shown} is a folder with no {HUB_WEIGHTS} in it; name a run or a model file")
        found = open_file(weights, arch=arch, assume=assume, device=device, trust=trust)
        return replace(found, name=path.resolve().name)
    if not path.is_file():
        raise UserError(f"{shown} {'is no file' if path.exists() else 'does not exist'}; name a run or a model file")
    if path.suffix == ".onnx":
        ask, metadata, shape = of_onnx(_bytes(path), shown)
        facts, assumed = _facts(metadata, shown, assume)
        _check_shape(shape, facts, shown)
        return Model(path.name, "onnx", facts, ask, assumed)
    if path.suffix == ".pt2" or is_program(path):
        if not trust:
            raise UserError(
                f"{shown} is torch.export's: to read it is to run what is in it; give --trust if you know who made it, "
                "or use its ONNX or safetensors form"
            )
        ask, metadata, shape = of_program(_bytes(path), shown)
        facts, assumed = _facts(metadata, shown, assume)
        _check_shape(shape, facts, shown)
        return Model(path.name, "torch-export", facts, ask, assumed)
    metadata = _header(path) if path.suffix == ".safetensors" else {}
    arch = arch or metadata.get("arch") or None
    if arch is None:
        raise UserError(f"{shown} does not say which architecture it is of; give it by --arch, as presets name it")
    if not is_architecture(arch):
        hint = meant_by(arch) or "mmkd teachers check tells more"
        if library_of(arch)[0] == "catalogue":
            hint += " (one of your own needs --plugin FILE)"
        raise UserError(f"{shown}: there is no architecture {one_line(arch, 80)}; {hint}")
    facts, assumed = _facts(metadata, shown, assume)
    facts = replace(facts, arch=arch)
    network = _network(path, arch, facts, facts.features, device)
    kind = "safetensors" if path.suffix == ".safetensors" and not assumed else "checkpoint"
    return Model(path.name, kind, facts, of_module(Logits(network), device), assumed, network, device)


def _facts(metadata: Any, shown: str, assume: Assume | None) -> tuple[ModelFacts, bool]:
    found = facts_from(metadata, shown)
    if found is not None:
        return found, False
    if assume is None:
        raise UserError(f"{shown} does not say which classes it knows and how pictures are prepared; name its data set by --data")
    return assume(), True


def _network(path: Path, arch: str, facts: ModelFacts, features: str | None, device: torch.device) -> Classifier:
    prepared = facts.preprocessing

    def make() -> Classifier:
        return build_model(arch, prepared.channels, len(facts.classes), size=prepared.size, features=features)

    with room_on(device):
        return load_fitting(path, arch, make).to(device).eval().requires_grad_(False)


def _check_shape(shape: tuple[Any, ...], facts: ModelFacts, shown: str) -> None:
    prepared = facts.preprocessing
    for given, wanted in zip(shape[1:], (prepared.channels, prepared.size, prepared.size), strict=True):
        if isinstance(given, int) and given != wanted:
            sides = "x".join(str(side) if isinstance(side, int) else "any" for side in shape[1:])
            raise UserError(
                f"{shown} takes images of {sides} (channels, height, width), not {prepared.channels}x{prepared.size}x"
                f"{prepared.size}; name another data set by --data"
            )


def _header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except Exception as error:
        why = CUT_SHORT if is_cut_short(path) else one_line(str(error), 200)
        raise UserError(f"{plain(str(path))} cannot be read as safetensors: {why}") from error


def _bytes(path: Path) -> bytes:
    try:
        with os.fdopen(open_regular(path.resolve()), "rb") as file:
            return file.read()
    except OSError as error:
        raise UserError(f"{plain(str(path))} cannot be read: {error.strerror or error}") from error
