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
import torch.nn.functional as F
from torch import Tensor, nn

from engine.errors import UserError
from engine.models import Classifier
from engine.models.tapped import Tapped
from engine.shipping.facts import EXTRA
from engine.text import one_line

Ask = Callable[[Tensor], Tensor]  # [B, channels, H, W], normalised -> logits [B, C], float32, on the CPU


class Logits(nn.Module):
    """A classifier without its feature map: what other programs want. Its tensors are the classifier's own."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.size = model.size if isinstance(model, Tapped) else None
        self.network: nn.Module = model.network if isinstance(model, Tapped) else model

    def forward(self, images: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, C]."""
        if self.size is not None:
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", align_corners=False)
        output = self.network(images)
        logits: Tensor = output if isinstance(output, Tensor) else output[0]
        return logits


def of_module(network: nn.Module, device: torch.device) -> Ask:
    """`network` gives logits; it is asked as it is."""

    @torch.inference_mode()
    def ask(images: Tensor) -> Tensor:
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
    whole = inputs[0].shape[0] if isinstance(inputs[0].shape[0], int) else None  # a batch size that cannot be changed

    def ask(images: Tensor) -> Tensor:
        pieces = []
        for piece in torch.split(images.float().cpu(), whole or max(len(images), 1)):
            array = np.ascontiguousarray(piece.numpy())
            if whole and len(piece) < whole:
                array = np.concatenate([array, np.repeat(array[-1:], whole - len(piece), 0)])
            try:
                found = session.run([wanted], {given: array})[0]
            except Exception as error:
                raise UserError(f"{whose} cannot take these images: {one_line(str(error), 200)}") from error
            pieces.append(torch.from_numpy(np.asarray(found, np.float32))[: len(piece)])
        return torch.cat(pieces)

    return ask, dict(session.get_modelmeta().custom_metadata_map), tuple(inputs[0].shape)


def _elsewhere(part: Any) -> bool:
    """Whether a graph or a function of an ONNX model, or a graph within, names another file for a tensor."""
    tensors = list(getattr(part, "initializer", ()))
    for node in part.node:
        for attribute in node.attribute:
            tensors += [*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors]
            if any(_elsewhere(graph) for graph in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs)):
                return True
    return any(tensor.data_location == 1 for tensor in tensors)


def of_program(data: bytes, whose: str) -> tuple[Ask, Mapping[str, str]]:
    """What torch.export saved, and its metadata. UserError where it is none.

    Only for files that are trusted: PyTorch reads such a program by running some of it.
    """
    extra = {EXTRA: ""}
    try:
        with quietly():
            network = torch.export.load(io.BytesIO(data), extra_files=extra).module()
    except Exception as error:
        raise UserError(f"{whose} cannot be read as torch.export's: {one_line(str(error), 200)}") from error
    try:
        metadata = json.loads(extra[EXTRA] or "{}")
    except (ValueError, RecursionError):
        metadata = {}
    return of_module(network, torch.device("cpu")), metadata if isinstance(metadata, dict) else {}


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
