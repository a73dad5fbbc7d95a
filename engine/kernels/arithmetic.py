"""The arithmetic of a network's pass, whatever the architecture: applied to PyTorch's own calls while a `with` block lasts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from engine.kernels.batch_norm import batch_norm
from engine.kernels.convolution import Geometry, convolution

# What takes operands of one dtype only, while parameters are float32 and what a convolution gives is not.
ONE_DTYPE = frozenset(
    {
        *(F.linear, F.bilinear, F.prelu, F.layer_norm, F.group_norm, F.instance_norm, F.rms_norm),
        *(F.multi_head_attention_forward, F.scaled_dot_product_attention),
        *(torch.prelu, torch.matmul, torch.bmm, torch.addmm, torch.baddbmm, torch.einsum),
        *(Tensor.matmul, Tensor.__matmul__, Tensor.bmm, Tensor.addmm),
    }
)


class Arithmetic(TorchFunctionMode):
    """Convolutions in bfloat16 on request, and a cheap double backward for convolutions and BatchNorm on request.

    With `bf16`, a convolution's operands are rounded and what follows it stays narrow; parameters, BatchNorm's statistics and
    linear layers stay as they are. With `twice`, both operations are this package's own.
    """

    def __init__(self, *, bf16: bool = False, twice: bool = False) -> None:
        super().__init__()
        self.bf16, self.twice = bf16, twice

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called by PyTorch for every function of its own."""
        kwargs = kwargs or {}
        if func is torch.conv2d:
            return self._conv2d(*args, **kwargs)
        if func is F.batch_norm:
            return self._batch_norm(*args, **kwargs)
        if self.twice and func is F.hardsigmoid:
            return F.relu6(args[0] + 3) / 6  # PyTorch's own has no second derivative
        if self.bf16 and func in ONE_DTYPE:
            args, kwargs = [_widened(a) for a in args], {name: _widened(value) for name, value in kwargs.items()}
        return func(*args, **kwargs)

    def _conv2d(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        if self.bf16:
            input, weight = input.bfloat16(), weight.bfloat16()
            bias = None if bias is None else bias.bfloat16()
        if not self.twice or isinstance(padding, str):
            return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
        return convolution(input, weight, bias, Geometry(_pair(stride), _pair(padding), _pair(dilation), groups))

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not (self.twice and training and input.dim() == 4 and weight is not None and bias is not None):
            return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        y, mean, variance = batch_norm(input, weight, bias, eps)
        if running_mean is not None and running_var is not None:
            count = input.numel() // input.shape[1]
            with torch.no_grad():
                running_mean.lerp_(mean, momentum)
                running_var.lerp_(variance * (count / max(count - 1, 1)), momentum)
        return y


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
