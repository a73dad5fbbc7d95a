"""A network as the bytes of a file: safetensors, ONNX, torch.export's. No path of the machine that wrote it is in them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch

from engine.errors import UserError
from engine.models import Classifier
from engine.shipping.facts import EXTRA, ModelFacts
from engine.shipping.runners import Logits, need_onnx, quietly
from engine.text import one_line

FORMATS = {"safetensors": ".safetensors", "onnx": ".onnx", "torch-export": ".pt2"}
INPUT, OUTPUT = "images", "logits"
MOST_ONNX = 2**31 - 2**20  # bytes: protobuf's limit, and room for the graph


def as_safetensors(model: Classifier, facts: ModelFacts) -> bytes:
    """The tensors by the architecture's own names, in float32; the facts in the header."""
    stored = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in model.state_dict().items()}
    return safetensors.torch.save(stored, metadata={"format": "pt", **facts.to_metadata()})


def as_program(model: Classifier, facts: ModelFacts) -> bytes:
    """torch.export's archive of `images` [batch, channels, size, size] -> logits [batch, C], any batch; the facts beside it."""
    program = _program(model, facts)
    buffer = io.BytesIO()
    with quietly():
        torch.export.save(program, buffer, extra_files={EXTRA: json.dumps(facts.to_metadata())})
    return buffer.getvalue()


def as_onnx(model: Classifier, facts: ModelFacts) -> bytes:
    """An ONNX model of `images` [batch, channels, size, size] -> `logits` [batch, C], for any batch; facts in metadata_props."""
    need_onnx("onnx", "onnxscript", "onnxruntime")
    weight = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if weight > MOST_ONNX:
        raise UserError(f"{facts.arch} has {weight / 1e9:.1f} GB of weights, and one ONNX file holds 2; use --format safetensors")
    program = _program(model, facts)
    try:
        with quietly():
            made = torch.onnx.export(
                program,
                (_example(facts),),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamo=True,
                verbose=False,
                external_data=False,
            )
    except Exception as error:
        raise _cannot(facts, "ONNX", error) from error
    assert made is not None
    return labelled(made.model_proto, facts.to_metadata())


def labelled(model: Any, metadata: Mapping[str, str]) -> bytes:
    """An ONNX model as bytes, with this metadata and without the exporter's own (which has this machine's paths)."""
    for part in (model.graph, *model.functions):
        for node in part.node:
            del node.metadata_props[:]
            node.doc_string = ""
        for value in (*getattr(part, "input", ()), *getattr(part, "output", ()), *part.value_info):
            if not isinstance(value, str):
                del value.metadata_props[:]
        del part.metadata_props[:]
    _name_batch(model)
    del model.metadata_props[:]
    for name, value in metadata.items():
        model.metadata_props.add(key=name, value=value)
    data: bytes = model.SerializeToString()
    return data


def _name_batch(model: Any) -> None:
    """The exporter's own symbol for the batch's size is called what it is."""
    symbol = model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if symbol and side.dim_param == symbol:
                side.dim_param = "batch"


def _program(model: Classifier, facts: ModelFacts) -> torch.export.ExportedProgram:
    try:
        with quietly():
            batch = torch.export.Dim("batch", min=1)
            program = torch.export.export(Logits(model).eval(), (_example(facts),), dynamic_shapes=({0: batch},))
    except Exception as error:
        raise _cannot(facts, "torch.export", error) from error
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)  # which files of this machine made it
    return program


def _example(facts: ModelFacts) -> torch.Tensor:
    prepared = facts.preprocessing
    return torch.zeros(2, prepared.channels, prepared.size, prepared.size)


def _cannot(facts: ModelFacts, how: str, error: Exception) -> UserError:
    first = one_line(str(error).strip().split("\n")[0] or type(error).__name__, 300)
    return UserError(f"{facts.arch} cannot be exported by {how}: {first}; --format safetensors always can")
