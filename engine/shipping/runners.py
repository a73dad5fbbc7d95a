"""Runs a model of any format: normalised images in, logits out."""

from __future__ import annotations

import importlib
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.errors import UserError
from engine.models import Classifier
from engine.models.tapped import Tapped, fitted
from engine.out_of_memory import lacks_memory, told_of
from engine.shipping.facts import EXTRA
from engine.text import one_line

Ask = Callable[[Tensor], Tensor]  # [B, channels, H, W], normalised -> logits [B, C], float32, on the CPU


class Logits(nn.Module):
    """A classifier without its feature map: what other programs want. Its tensors are the classifier's own."""

    affine: Tensor | None

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.size, affine = (model.size, model.affine) if isinstance(model, Tapped) else (None, None)
        self.register_buffer("affine", affine, persistent=False)
        self.network: nn.Module = model.network if isinstance(model, Tapped) else model

    def forward(self, images: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, C]."""
        output = self.network(fitted(images, self.affine, self.size))
        logits: Tensor = output if isinstance(output, Tensor) else output[0]
        return logits


class NoRoomError(UserError):
    """A device has not the memory for a network, or for what it computes."""


@contextmanager
def room_on(device: torch.device) -> Iterator[None]:
    """NoRoomError, which says what would help, where what is done on the device needs more memory than it has."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        remedy = "free some of it first" if device.type == "cpu" else "give --device cpu"
        raise NoRoomError(told_of(error, remedy)) from error


def of_module(network: Callable[[Tensor], Tensor], device: torch.device) -> Ask:
    """`network` gives logits; it is asked as it is. NoRoomError where it cannot be."""

    @torch.inference_mode()
    def ask(images: Tensor) -> Tensor:
        with room_on(device):
            logits: Tensor = network(images.to(device))
            return logits.float().cpu()

    return ask


def need_onnx(*names: str) -> None:
    """UserError, with the command that mends it, where the extra is not installed."""
    for name in names or ("onnx", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise UserError(f"ONNX files need {name}, which is not installed; pip install 'mmkd-tui[onnx]' brings it") from None


def of_onnx(data: bytes, whose: str) -> tuple[Ask, Mapping[str, str], tuple[Any, ...]]:
    """A session on the CPU, its metadata, and its input's shape [B, channels, H, W] (texts where any number will do).

    UserError where it is no model of images to logits, or keeps its weights in other files: those are never looked for.
    """
    need_onnx()
    import onnx
    import onnxruntime

    try:
        graph = onnx.load_model_from_string(data)
        if any(_elsewhere(part) for part in (graph.graph, *graph.functions)):
            raise UserError(f"{whose} keeps its weights in other files; save it as one file")
        del graph
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what is wrong is raised as well
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except UserError:
        raise
    except Exception as error:  # the library has no base of its own for what it finds in a file
        raise UserError(f"{whose} cannot be read as ONNX: {one_line(str(error), 200)}") from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    names = [output.name for output in outputs]
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        raise UserError(f"{whose} does not take one tensor of images [B, channels, H, W] in float32; mmkd cannot run it")
    given, wanted = inputs[0].name, "logits" if "logits" in names else names[0]

    def run(images: Tensor) -> Tensor:
        found = session.run([wanted], {given: np.ascontiguousarray(images.numpy())})[0]
        return torch.from_numpy(np.asarray(found, np.float32))

    shape = tuple(inputs[0].shape)
    return _in_batches(run, shape[0], whose), dict(session.get_modelmeta().custom_metadata_map), shape


def _in_batches(run: Ask, size: int | str | None, whose: str) -> Ask:
    """For a model that takes `size` images at a time and no other number; a text or None: any."""

    def ask(images: Tensor) -> Tensor:
        pieces = []
        for piece in torch.split(images.float().cpu(), size if isinstance(size, int) else max(len(images), 1)):
            missing = max(size - len(piece), 0) if isinstance(size, int) else 0
            try:
                found = run(torch.cat([piece, piece[-1:].expand(missing, -1, -1, -1)]))
            except UserError:
                raise
            except Exception as error:  # libraries have no base of their own for what a model stumbles over
                raise UserError(f"{whose} cannot take these images: {one_line(str(error), 200)}") from error
            pieces.append(found[: len(piece)])
        return torch.cat(pieces)

    return ask


def _elsewhere(part: Any) -> bool:
    """Whether a graph or a function of an ONNX model, or a graph within, names another file for a tensor."""
    tensors = list(getattr(part, "initializer", ()))
    for node in part.node:
        for attribute in node.attribute:
            tensors += [*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors]
            if any(_elsewhere(graph) for graph in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs)):
                return True
    return any(tensor.data_location == 1 for tensor in tensors)


def of_program(data: bytes, whose: str) -> tuple[Ask, Mapping[str, str], tuple[Any, ...]]:
    """What torch.export saved, its metadata, and its input's shape as `of_onnx` gives it. UserError where it is no such file, or
    no model of images to logits.

    Only for files that are trusted: PyTorch reads such a program by running some of it.
    """
    extra = {EXTRA: ""}
    try:
        with quietly():
            program = torch.export.load(io.BytesIO(data), extra_files=extra)
            network = program.module()
    except Exception as error:
        raise UserError(f"{whose} cannot be read as torch.export's: {one_line(str(error), 200)}") from error
    try:
        metadata = json.loads(extra[EXTRA] or "{}")
    except (ValueError, RecursionError):
        metadata = {}
    given = [node.meta.get("val") for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    if len(given) != 1 or not isinstance(given[0], Tensor) or given[0].dim() != 4 or given[0].dtype != torch.float32:
        raise UserError(f"{whose} does not take one tensor of images [B, channels, H, W] in float32; mmkd cannot run it")

    def logits(images: Tensor) -> Tensor:
        found = network(images)
        if not isinstance(found, Tensor):
            raise UserError(
                f"{whose} gives a {type(found).__name__}, not one tensor of logits [B, classes]; export it so that it does"
            )
        return found

    shape = tuple(side if isinstance(side, int) else str(side) for side in given[0].shape)
    run = of_module(logits, torch.device("cpu"))
    return _in_batches(run, shape[0], whose), metadata if isinstance(metadata, dict) else {}, shape


def is_program(path: Path) -> bool:
    """Whether a file is an archive of torch.export, whatever its name is; nothing in it is run."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("archive_format") for name in archive.namelist()[:10_000])
    except (OSError, zipfile.BadZipFile):
        return False


@contextmanager
def quietly() -> Iterator[None]:
    """Without the libraries' remarks on their own insides; onnxruntime's go to the root logger."""
    loggers = [logging.getLogger(name) for name in ("", "torch.onnx", "onnxscript", "torch.export", "torch.fx")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
