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
WIDE = frozenset({F.bilinear, F.prelu, F.layer_norm, F.group_norm, F.instance_norm, F.rms_norm, torch.prelu})
# As narrow as its weights, which a frozen network may have so: their place among the arguments, and their name.
WEIGHED = {F.linear: (1, "weight"), F.multi_head_attention_forward: (5, "in_proj_weight")}
# Narrow where all that is multiplied is.
PRODUCTS = frozenset(
    {
        *(F.scaled_dot_product_attention, torch.matmul, torch.bmm, torch.addmm, torch.baddbmm, torch.einsum),
        *(Tensor.matmul, Tensor.__matmul__, Tensor.bmm, Tensor.addmm),
    }
)


class Arithmetic(TorchFunctionMode):
    """Convolutions in bfloat16 on request, and a cheap double backward for convolutions and BatchNorm on request.

    With `bf16`, a convolution's operands are rounded and what follows it stays narrow; parameters, normalisation and linear
    layers stay as they are, but for a linear layer whose weights are bfloat16. With `twice`, convolutions and BatchNorm are this
    package's own.
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
        if self.bf16 and (func in WIDE or func in WEIGHED or func in PRODUCTS):
            dtype = _common_dtype(func, args, kwargs)
            args, kwargs = [_in(dtype, a) for a in args], {name: _in(dtype, value) for name, value in kwargs.items()}
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


def _common_dtype(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> torch.dtype:
    """In which the operands of one of the functions above go together."""
    if func in WIDE:
        return torch.float32
    if func in WEIGHED:
        place, name = WEIGHED[func]
        decisive = [args[place] if len(args) > place else kwargs.get(name)]
    else:
        decisive = [value for value in args if isinstance(value, Tensor)]
        if func is F.scaled_dot_product_attention:
            decisive = decisive[:3]  # and the mask as they are
    narrow = decisive and all(isinstance(one, Tensor) and one.dtype == torch.bfloat16 for one in decisive)
    return torch.bfloat16 if narrow else torch.float32


def _in(dtype: torch.dtype, value: Any) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float32) else value


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
