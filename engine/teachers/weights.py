"""A network's weights as the bytes of a safetensors file, and back."""

from __future__ import annotations

import io
from collections.abc import Mapping

import safetensors.torch
from torch import Tensor

from engine.tensor_header import check_header

MOST_TENSORS = 10_000  # a large network has some hundreds


def pack(weights: Mapping[str, Tensor]) -> bytes:
    """From any device; tensors that share memory are stored each by itself."""
    return safetensors.torch.save({name: value.detach().to("cpu", copy=True).contiguous() for name, value in weights.items()})


def unpack(data: bytes) -> dict[str, Tensor]:
    """On the CPU, in memory of their own. SafetensorError or ValueError where the bytes are no such file."""
    check_header(io.BytesIO(data), MOST_TENSORS)
    return safetensors.torch.load(data)
