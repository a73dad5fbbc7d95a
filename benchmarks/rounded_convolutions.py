"""bfloat16 on a processor without instructions for it: `mmkd sweep FILE --plugin benchmarks/rounded_convolutions.py`.

A convolution's operands are rounded to bfloat16, it is computed in float32, and its result is rounded: what such instructions do,
but for the order of sums. PyTorch's own replacement takes eight times as long, and rounds the sums of gradients on the way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import engine


def forward(
    images: Tensor, weight: Tensor, size: Sequence[int], bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    found = torch.conv2d(images.float(), weight.float(), None if bias is None else bias.float(), stride, padding)
    return found.to(images.dtype)


def backward(
    grad: Tensor,
    images: Tensor,
    weight: Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    wanted: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    operands = (grad.float(), images.float(), weight.float())
    to_images, to_weight, _ = torch.ops.aten.convolution_backward(
        *operands, None, stride, padding, [1, 1], False, [0, 0], 1, [wanted[0], wanted[1], False]
    )
    to_bias = grad.float().sum((0, 2, 3)) if wanted[2] else None
    return tuple(None if found is None else found.to(grad.dtype) for found in (to_images, to_weight, to_bias))


OWN = torch.library.Library("aten", "IMPL")
OWN.impl("_slow_conv2d_forward", forward, "CPU")
OWN.impl("_slow_conv2d_backward.output_mask", backward, "CPU")

# A plugin has to register an architecture.
engine.register_architecture("none-of-these", lambda channels, classes: nn.Linear(channels, classes))
